# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Draws the heat maps of phrases over images, and measures them: what ``mgca ground`` does."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from monai_mgca.apps.choose_data import choose_data
from monai_mgca.apps.ground.ground_command import RANDOM, REFERENCE
from monai_mgca.apps.ground.grounding_reference import read_reference
from monai_mgca.apps.ground.phrase_grounder import PhraseGrounder
from monai_mgca.apps.ground.regions import GroundingFigures, load_regions, measure_regions
from monai_mgca.apps.image_text_model import PretrainedModel, load_pretrained
from monai_mgca.data import load_datalist, read_datalist
from monai_mgca.data.entry import SECTIONS
from monai_mgca.options import bundle_root
from monai_mgca.transforms import LoadRadiograph
from monai_mgca.utils import DataError
from monai_mgca.utils.console import say, visible
from monai_mgca.utils.files import replacing
from monai_mgca.utils.progress import progress_bar
from monai_mgca.visualize.overlay import draw_heat
from monai_mgca.visualize.page import data_uri, write_page
from monai_mgca.weights import read_model_settings

__all__ = ["ground"]

THUMBNAIL = 320


def _load_model(args: argparse.Namespace, checkpoint: str) -> PretrainedModel:
    """Of a checkpoint, or with random weights in the network of the first one."""
    torch.manual_seed(0)
    first = next(name for name in args.checkpoint if name != RANDOM)
    model = load_pretrained(first, random=checkpoint == RANDOM)
    for phrase in args.text:  # before the long work
        model.read_text(phrase)
    return model


def _find_reference(args: argparse.Namespace) -> list[str] | dict[str, list[torch.Tensor]]:
    """Images that show what is usual, or what the training kept of its own."""
    if args.datalist is None and args.reference == REFERENCE:
        kept = read_reference(args.checkpoint[0]) or {}
        if args.method in kept:
            return kept
    choose_data(args, args.checkpoint[0])
    section = "training" if read_datalist(args.datalist).get("training") else args.section
    items = load_datalist(args.datalist, section, args.dataset_dir, report=False)[: args.reference]
    return [item["image"] for item in items]


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")


def _name(path: str, text: str) -> str:
    """A file name from an image's and a phrase."""
    return f"{Path(path).name.split('.')[0]}_{re.sub(r'[^a-z0-9]+', '_', text.lower()).strip('_')[:60]}"


def _ground_images(args: argparse.Namespace) -> list[str]:
    """Overlays and maps of the phrases on the images."""
    ground = PhraseGrounder(_load_model(args, args.checkpoint[0]), _find_reference(args), args.method)
    load, written = LoadRadiograph(), []
    for path in progress_bar(args.image, "grounding"):
        for phrase, heat in zip(args.text, ground(path, args.text), strict=True):
            base = Path(args.output) / _name(path, phrase)
            gray = (255 * heat / heat.max().clamp_min(torch.finfo(heat.dtype).tiny)).round().byte().numpy()
            _save(Image.fromarray(gray), base.with_name(f"{base.name}_map.png"))
            _save(draw_heat(load(path)[0], heat), base.with_name(f"{base.name}.png"))
            y, x = divmod(int(heat.argmax()), heat.shape[1])
            size = f"{heat.shape[1]} x {heat.shape[0]} pixels"
            say(f"{visible(path)}: {phrase!r} is highest at x = {x}, y = {y} of {size}.")
            written += [f"{base}.png", f"{base}_map.png"]
    return written


def _ground_words(args: argparse.Namespace) -> list[str]:
    """A page with a map for every word of the images' reports."""
    wanted = {os.path.realpath(path): path for path in args.image}
    found: dict[str, Any] = {}
    for section in filter(read_datalist(args.datalist).get, SECTIONS):
        for entry in load_datalist(args.datalist, section, args.dataset_dir):
            found |= {wanted[real]: entry for real in [os.path.realpath(entry["image"])] if real in wanted}
    if missing := [path for path in args.image if path not in found]:
        raise DataError(f"{args.datalist} has no report of {', '.join(missing)}: --words needs images of the datalist.")
    model, reference = _load_model(args, args.checkpoint[0]), _find_reference(args)
    by_sentence, by_word = (PhraseGrounder(model, reference, method) for method in ("attribution", "token"))
    load, images = LoadRadiograph(), []
    for path in progress_bar(args.image, "grounding"):
        gray, report = load(path)[0], found[path]["report"]
        sentences = [text for text in model.clean(report) if model.knows(text)]
        of_sentences: Any = by_sentence(path, sentences) if sentences else []
        groups = (sentences, of_sentences), by_word.ground_words(path, report)
        shown = [
            [(data_uri(draw_heat(gray, heat), THUMBNAIL), text) for text, heat in zip(texts, maps, strict=True)]
            for texts, maps in groups
        ]
        images.append((Path(path).name, data_uri(Image.fromarray(gray.byte().numpy()), THUMBNAIL), *shown))
    page = f"{args.output}/words.html"
    write_page(page, "Word by word", "words.html", images=images)
    return [page]


def _evaluate(args: argparse.Namespace) -> list[str]:
    """The figures of all annotated findings of a section, and overlays of the first."""
    regions = load_regions(args.datalist, args.section, args.dataset_dir, dict(args.phrases), args.mask_key)
    figures = GroundingFigures(args.tolerance)
    pictures: list[tuple[str, str]] = []
    load, reference = LoadRadiograph(), _find_reference(args)
    for number, checkpoint in enumerate(args.checkpoint):
        ground = PhraseGrounder(_load_model(args, checkpoint), reference, args.method)
        for region, heat in measure_regions(ground, regions, figures, checkpoint):
            if number == 0 and len(pictures) < args.overlays:
                picture = draw_heat(load(region.image)[0], heat, region.mask)
                path = Path(args.output) / "overlays" / f"{len(pictures):03d}_{_name(region.image, region.name)}.png"
                _save(picture, path)
                pictures.append((data_uri(picture, THUMBNAIL), f"{region.name}: {Path(region.image).name}"))
    table, page = Path(args.output) / "grounding.csv", Path(args.output) / "grounding.html"
    figures.write(table)
    note = "Where the network sees each finding (orange), and the outline of where it was annotated (blue)."
    write_page(page, "Grounding", "overlays.html", note=note, pictures=pictures)
    say(f"{len(regions)} findings in the section '{args.section}', maps of the method '{args.method}':")
    say(figures.table())
    return [str(table), str(page), f"{args.output}/overlays"]


def ground(args: argparse.Namespace) -> list[str]:
    """Draw the heat maps of phrases, of the words of reports, or of what is annotated, and measure these.

    Args:
        args: of ``mgca ground``.

    Returns:
        The paths of the pictures, tables and pages.

    Raises:
        DataError: when the options or the data do not fit.
        CheckpointError: when the weights cannot be read.
    """
    root = bundle_root()
    args.checkpoint = args.checkpoint or [f"{root}/models/model_pretrain.pt", *([RANDOM] if args.evaluate else [])]
    args.output = args.output or f"{root}/eval/grounding"
    if not args.evaluate and not (args.image and (args.text or args.words)):
        raise DataError(
            'Nothing to do: give --image FILE with --text "left pleural effusion" or --words, or --evaluate.'
        )
    if missing := [path for path in args.image if not os.path.isfile(path)]:
        raise DataError(f"There is no image {', '.join(missing)}: check the path of --image.")
    if all(name == RANDOM for name in args.checkpoint):
        raise DataError("--checkpoint needs a model_pretrain.pt, whose network the random one is.")
    read_model_settings(args.checkpoint[0], required=True)
    if args.evaluate or args.words or args.dataset_dir or args.datalist:
        choose_data(args, args.checkpoint[0])
    tasks = ((args.text, _ground_images), (args.words, _ground_words), (args.evaluate, _evaluate))
    return [path for wanted, task in tasks if wanted for path in task(args)]
