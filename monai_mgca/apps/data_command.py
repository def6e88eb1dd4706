# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Makes a datalist from a data source: ``mgca data SOURCE ... --output FILE``."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from monai_mgca.utils.arguments import ArgumentParser
from monai_mgca.utils.console import log_to_console, say
from monai_mgca.utils.errors import DataError

__all__ = ["main", "make_parser"]

EXAMPLES = {
    "csv": "mgca data csv reports.csv --image path --report text --patient patient_id --output dataset.json\n"
    "mgca data csv labels.csv --image path --labels edema effusion --output dataset.json",
    "folder": "mgca data folder --images dicom --reports text --patient folder --output dicom/datalist.json",
    "open_i": "mgca data open_i --reports ecgen-radiology --images NLMCXR_png --output NLMCXR_png/datalist.json",
    "mimic_cxr": "mgca data mimic_cxr --dataset-dir mimic-cxr-jpg --reports mimic-cxr-reports --output mimic.json",
    "rsna_pneumonia": "mgca data rsna_pneumonia --dataset-dir rsna-pneumonia-detection-challenge --output rsna.json",
    "siim_acr": "mgca data siim_acr --dataset-dir siim-acr-pneumothorax --output siim.json",
    "object_cxr": "mgca data object_cxr --dataset-dir object-cxr --output objects.json",
    "chexpert": "mgca data chexpert --dataset-dir CheXpert-v1.0-small --output chexpert.json",
    "covidx": "mgca data covidx --dataset-dir covidx-cxr2 --output covidx.json",
    "ct_rate": "mgca data ct_rate --dataset-dir CT-RATE --output ct_rate.json",
    "rad_chestct": "mgca data rad_chestct --dataset-dir RAD-ChestCT --output rad_chestct.json",
    "merlin": "mgca data merlin --dataset-dir merlinabdominalctdataset --output merlin.json",
    "inspect": "mgca data inspect --dataset-dir inspect --output inspect.json",
    "sample": "mgca data sample --output sample --size 640",
}
# the module and the function of each source, imported when it is asked for
SOURCES = {
    "csv": ("tables.csv_table", "collect_table"),
    "folder": ("report_folder", "collect_folder"),
    **{name: (name, f"collect_{name}") for name in ("open_i", "mimic_cxr", "rsna_pneumonia", "siim_acr", "object_cxr")},
    **{name: (name, f"collect_{name}") for name in ("chexpert", "covidx", "ct_rate", "rad_chestct", "merlin")},
    "inspect": ("inspect_ctpa", "collect_inspect"),
}


def _source_parser(
    commands, name: str, help: str, splits: bool = True, fractions: Sequence[float] = (0.8, 0.1, 0.1)
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=help, examples=EXAMPLES[name])
    parser.add_argument("--output", required=True, metavar="FILE", help="the datalist JSON to write")
    parser.add_argument("--name", help="the data set's name (default: the name of its folder)")
    if splits:
        default = " ".join(f"{part:g}" for part in fractions)
        help = f"parts of the patients to whom the source gives no split (default: {default})"
        parts = ("TRAIN", "VAL", "TEST")
        parser.add_argument("--fractions", nargs=3, type=float, default=tuple(fractions), metavar=parts, help=help)
        parser.add_argument("--seed", type=int, default=0, help="another seed gives another split (default: 0)")
    return parser


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = ArgumentParser(
        prog="mgca data",
        description="Make a datalist from a data source, which ``mgca check`` then checks.",
        examples="\n".join(EXAMPLES[name] for name in ("folder", "csv", "sample")),
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="SOURCE")
    _add_csv(commands)
    _add_named_sources(commands)
    _add_labeled_sources(commands)
    _add_volume_sources(commands)

    help = "the built-in sample: procedural radiographs and reports"
    sample = commands.add_parser("sample", help=help, description=help, examples=EXAMPLES["sample"])
    sample.add_argument("--output", required=True, metavar="DIR", help="the folder to make it in")
    sample.add_argument("--size", type=int, default=640, help="number of studies (default: 640)")
    sample.add_argument("--image-size", type=int, default=128, help="pixels of a side (default: 128)")
    sample.add_argument("--seed", type=int, default=0)
    help = "of the reports: English (default), Spanish, or in turn one and the other"
    sample.add_argument("--language", choices=("en", "es", "en+es"), default="en", help=help)
    sample.add_argument("--sheet", metavar="FILE", help="also draw an overview picture")

    return parser


def _add_csv(commands) -> None:
    table = _source_parser(commands, "csv", "any CSV or TSV table of images with reports, masks, boxes or labels")
    table.add_argument("table", metavar="TABLE", help="comma, semicolon or tab; may be .gz")
    encoding = "of the table, such as cp1252 (default: UTF-8; UTF-16 is found out)"
    table.add_argument("--encoding", metavar="NAME", help=encoding)
    image = table.add_mutually_exclusive_group(required=True)
    image.add_argument("--image", metavar="COL", help="column of image paths, or with --images of names")
    template = "a path with columns in braces in its place, such as '{folder}/{name}.png'"
    image.add_argument("--image-template", metavar="TEXT", help=template)
    look = "folders to look through for the images by name, with or without suffix (default: take paths as they are)"
    table.add_argument("--images", nargs="+", default=(), metavar="DIR", help=look)
    table.add_argument("--report", metavar="COL", help="column of whole reports; section headings are recognized")
    table.add_argument("--findings", metavar="COL", help="column of findings, instead of --report")
    table.add_argument("--impression", metavar="COL", help="column of impressions, instead of --report")
    table.add_argument("--patient", metavar="COL", help="column of patients (default: every image its own)")
    table.add_argument("--split", metavar="COL", help="column of splits (default: split by patient)")
    table.add_argument("--id", metavar="COL", help="column of ids (default: the image path without its suffix)")
    table.add_argument(
        "--where", action="append", default=[], metavar="COL=VALUE", help="only these rows; may be repeated"
    )
    table.add_argument("--dataset-dir", metavar="DIR", help="folder of the images (default: the table's folder)")
    help = "columns of what results are split by, such as sex age=PatientAge (see mgca groups)"
    table.add_argument("--group", nargs="+", default=(), metavar="[NAME=]COL", help=help)
    help = "another table with these columns, of the same images under the same column (default: the table)"
    table.add_argument("--group-table", metavar="FILE", help=help)
    _add_headings(table)
    _add_letters(table)
    _add_annotations(table.add_argument_group("annotations", "with or without reports"))


def _add_headings(parser) -> None:
    help = 'JSON of headings that the built-in table lacks: {"findings": ["..."], "left_out": ["..."]}'
    parser.add_argument("--headings", metavar="FILE", help=help)


def _add_letters(parser) -> None:
    help = "letters of the reports: ascii, for English (default), or all, which keeps accents and other scripts"
    parser.add_argument("--letters", choices=("ascii", "all"), default="ascii", help=help)


def _add_annotations(group) -> None:
    mask = "column of masks: paths, or COCO's run lengths as JSON; CLASS=COL for each of several classes"
    group.add_argument("--mask", action="append", default=[], metavar="[CLASS=]COL", dest="masks", help=mask)
    boxes = 'column of JSON lists of [x0, y0, x1, y1] or of {"label": ..., "box": [...]}; of volumes six numbers'
    group.add_argument("--boxes", metavar="COL", help=boxes)
    four = "in place of it X0 Y0 X1 Y1, or X0 Y0 Z0 X1 Y1 Z1 of volumes, one row a box"
    group.add_argument("--box-columns", nargs="+", default=(), metavar="COL", help=four)
    group.add_argument("--box-label", metavar="COL", help="column of the class of a row's boxes")
    group.add_argument(
        "--box-format", choices=("xyxy", "xywh"), default="xyxy", help="two corners, or one and the sizes"
    )
    no_box = "an empty cell of boxes: not annotated (default), or no finding"
    group.add_argument("--no-box", choices=("unknown", "none"), default="unknown", help=no_box)
    labels = "columns of labels, one a class: 1, 0, -1 for uncertain, empty for unknown"
    group.add_argument("--labels", nargs="+", default=(), metavar="COL", help=labels)
    group.add_argument("--label", metavar="COL", help="in their place one column of the names of classes")
    group.add_argument("--separator", default="|", help="between the names of --label (default: |)")
    classes = "names to take from --label or --boxes, in this order (default: all)"
    group.add_argument("--classes", nargs="+", default=(), metavar="NAME", help=classes)


def _add_named_sources(commands) -> None:
    folder = _source_parser(commands, "folder", "one's own images and .txt reports with the same names")
    folder.add_argument("--images", required=True, metavar="DIR", help="DICOM, PNG, JPEG, TIFF, BMP, NIfTI")
    beside = "one .txt an image; 'one-per-folder': beside the images, one a folder"
    folder.add_argument("--reports", required=True, metavar="DIR", help=beside)
    study = "one report for all images of a folder: reports/7.txt, or the one text in reports/7, for images/7"
    folder.add_argument("--one-per-folder", action="store_true", help=study)
    volumes = "the images are CTs: NIfTI files, and folders that each hold one DICOM series"
    folder.add_argument("--volumes", action="store_true", help=volumes)
    choices = ("none", "folder", "dicom")
    folder.add_argument("--patient", choices=choices, default="none", help="where the patient's id is")
    _add_headings(folder)
    _add_letters(folder)

    open_i = _source_parser(commands, "open_i", "Open-i: Indiana University chest radiographs")
    open_i.add_argument("--reports", required=True, metavar="DIR", help="the folder of XML reports")
    open_i.add_argument("--images", required=True, metavar="DIR", help="the folder of images")
    open_i.add_argument("--projections", metavar="CSV", help="table uid, filename, projection: keep all frontal views")
    _add_headings(open_i)

    mimic = _source_parser(commands, "mimic_cxr", "MIMIC-CXR-JPG with MIMIC-CXR's reports", splits=False)
    mimic.add_argument("--dataset-dir", required=True, metavar="DIR", help="MIMIC-CXR-JPG's folder")
    mimic.add_argument("--reports", required=True, metavar="DIR", help="the folder of reports")
    mimic.add_argument("--labels", action="store_true", help="add the CheXpert labels")
    _add_headings(mimic)


def _add_labeled_sources(commands) -> None:
    place: dict[str, Any] = {"required": True, "metavar": "DIR"}
    help = "RSNA Pneumonia Detection Challenge: boxes, masks, labels"
    rsna = _source_parser(commands, "rsna_pneumonia", help, fractions=(0.7, 0.15, 0.15))
    rsna.add_argument("--dataset-dir", help="Kaggle's folder, unpacked", **place)

    siim = _source_parser(commands, "siim_acr", "SIIM-ACR pneumothorax: masks, labels", fractions=(0.7, 0.15, 0.15))
    siim.add_argument("--dataset-dir", help="the folder of images, sub-folders included", **place)
    siim.add_argument("--table", metavar="CSV", help="ImageId, EncodedPixels (default: train-rle.csv in the folder)")
    starts = "what a run's start counts from: the end of the run before, or the first pixel (default: found out)"
    siim.add_argument("--encoding", choices=("auto", "relative", "absolute"), default="auto", help=starts)

    objects = _source_parser(commands, "object_cxr", "Object-CXR: boxes of foreign objects", fractions=(0.8, 0.2, 0))
    objects.add_argument("--dataset-dir", help="the folder of train/, dev/, train.csv and dev.csv", **place)

    chexpert = _source_parser(commands, "chexpert", "CheXpert: labels", fractions=(0.974, 0.026, 0))
    chexpert.add_argument("--dataset-dir", help="the folder CheXpert-v1.0-small", **place)
    chexpert.add_argument("--all-classes", action="store_true", help="14 findings (default: the competition's five)")
    empty = "a finding that the report does not mention (default: unknown)"
    chexpert.add_argument("--unmentioned", choices=("unknown", "absent"), default="unknown", help=empty)

    covidx = _source_parser(commands, "covidx", "COVIDx CXR: labels", fractions=(0.9, 0.1, 0))
    covidx.add_argument("--dataset-dir", help="the folder of train/ and test/", **place)
    covidx.add_argument("--train", metavar="TXT", help="the list of training images (default: train.txt in the folder)")
    covidx.add_argument("--test", metavar="TXT", help="the list of test images (default: test.txt in the folder)")


def _add_volume_sources(commands) -> None:
    ct_rate = _source_parser(commands, "ct_rate", "CT-RATE: chest CTs, reports, labels", fractions=(0.95, 0.05, 0))
    ct_rate.add_argument("--dataset-dir", required=True, metavar="DIR", help="the folder of its tables and volumes")
    version = "v2, in Hounsfield units, v1, with the metadata's rescale, or auto, v2 where it is there (default)"
    ct_rate.add_argument("--version", choices=("auto", "v1", "v2"), default="auto", help=version)
    scans = "of a scan: all, or the first alone (default: all)"
    ct_rate.add_argument("--reconstructions", choices=("all", "first"), default="all", help=scans)
    ct_rate.add_argument("--no-labels", action="store_false", dest="labels", help="leave the labels out")
    _add_headings(ct_rate)

    rad = _source_parser(commands, "rad_chestct", "RAD-ChestCT: chest CTs, labels", splits=False)
    rad.add_argument("--dataset-dir", required=True, metavar="DIR", help="the folder of the volumes")
    tables = "tables of labels (default: img*_Abnormality_and_Location_Labels.csv in the folder)"
    rad.add_argument("--labels", nargs="+", default=(), metavar="CSV", help=tables)
    rad.add_argument("--classes", nargs="+", default=(), metavar="NAME", help="findings to take, in this order")
    summary = "table of patients and splits (default: Summary_3630.csv in the folder)"
    rad.add_argument("--summary", metavar="CSV", help=summary)

    merlin = _source_parser(commands, "merlin", "Merlin: abdominal CTs, reports, labels", splits=False)
    merlin.add_argument("--dataset-dir", required=True, metavar="DIR", help="the folder merlinabdominalctdataset")
    sheet = "the sheet of reports_final.xlsx as CSV (default: reports_final.csv in the folder)"
    merlin.add_argument("--reports", metavar="CSV", help=sheet)
    merlin.add_argument("--classes", nargs="+", default=(), metavar="NAME", help="findings to take, in this order")
    merlin.add_argument("--no-labels", action="store_false", dest="labels", help="leave the labels out")
    _add_headings(merlin)

    inspect = _source_parser(commands, "inspect", "INSPECT: CTs of the lungs' arteries, impressions", splits=False)
    inspect.add_argument("--dataset-dir", required=True, metavar="DIR", help="the folder of CTPA/ and its tables")
    columns = "columns of labels to take, in this order (default: pe_positive_nlp)"
    inspect.add_argument("--classes", nargs="+", default=("pe_positive_nlp",), metavar="NAME", help=columns)
    inspect.add_argument("--no-labels", action="store_false", dest="labels", help="leave the labels out")
    _add_headings(inspect)


def _collect(args: argparse.Namespace) -> str:
    """Collect a source, write its datalist, and return the summary."""
    options = {k: v for k, v in vars(args).items() if k not in ("command", "output", "name", "fractions", "seed")}
    if args.command == "csv":
        from monai_mgca.data.sources.tables.table_labels import LabelColumns

        annotations = {field.name: options.pop(field.name) for field in dataclasses.fields(LabelColumns)}
        options["annotations"] = LabelColumns(**annotations)
    groups, group_table = options.pop("group", ()), options.pop("group_table", None)
    place, name = SOURCES[args.command]
    collect = getattr(import_module(f"monai_mgca.data.sources.{place}"), name)
    collection = collect(**options)
    if groups:
        from monai_mgca.data.sources.tables.table_groups import add_groups
        from monai_mgca.data.sources.tables.table_images import ImageColumns

        images = ImageColumns(args.image, args.image_template, args.images, collection.dataset_dir)
        add_groups(collection, images, group_table or args.table, groups, args.encoding)
    splitting = {"fractions": args.fractions, "seed": args.seed} if hasattr(args, "fractions") else {}
    return collection.write(args.output, name=args.name, **splitting)


def _sample(args: argparse.Namespace) -> None:
    from monai_mgca.data.sample.radiographs import draw_sheet, make_sample

    settings = {"size": args.size, "image_size": args.image_size, "seed": args.seed, "language": args.language}
    datalist = make_sample(args.output, **settings)
    say(f"wrote {datalist}")
    if args.sheet:
        draw_sheet(Path(datalist).parent, args.sheet)
        say(f"wrote {args.sheet}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0; 2 when the input is wrong.
    """
    log_to_console()
    args = make_parser().parse_args(argv)
    try:
        if args.command == "sample":
            _sample(args)
        else:
            say(_collect(args))
    except (DataError, OSError) as e:  # a full disk, a folder in place of a file
        say(f"error: {e}", file=sys.stderr)
        return 2
    return 0
