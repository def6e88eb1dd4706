# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Draws the heat maps of phrases over images, and measures them: what ``mgca ground`` does."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from monai_mgca.apps.choose_data import choose_data
from monai_mgca.apps.ground.ground_command import RANDOM, REFERENCE
from monai_mgca.apps.ground.grounding_reference import read_reference
from monai_mgca.apps.ground.map_files import describe_peak, map_name, save_picture, write_map
from monai_mgca.apps.ground.phrase_grounder import PhraseGrounder
from monai_mgca.apps.ground.regions import GroundingFigures, load_regions, measure_regions
from monai_mgca.apps.image_text_model import PretrainedModel, load_pretrained
from monai_mgca.apps.load_images import refuse_missing
from monai_mgca.data import load_datalist, read_datalist
from monai_mgca.data.entry import SECTIONS
from monai_mgca.data.image_item import ImageLike, path_of
from monai_mgca.options import bundle_root
from monai_mgca.utils import DataError
from monai_mgca.utils.console import say, visible
from monai_mgca.utils.progress import progress_bar
from monai_mgca.visualize.image_view import RadiographView, open_view
from monai_mgca.visualize.page import data_uri, write_page
from monai_mgca.visualize.volume_view import VolumeView
from monai_mgca.weights import read_model_settings

__all__ = ["ground"]

THUMBNAIL = 320
# pixels of the longest side of a volume in a page
PANEL = 256


def _load_model(args: argparse.Namespace, checkpoint: str) -> PretrainedModel:
    """Of a checkpoint, or with random weights in the network of the first one."""
    torch.manual_seed(0)
    first = next(name for name in args.checkpoint if name != RANDOM)
    model = load_pretrained(first, random=checkpoint == RANDOM)
    for phrase in args.text:  # before the long work
        model.read_text(phrase)
    return model


def _find_reference(args: argparse.Namespace) -> list[ImageLike] | dict[str, list[torch.Tensor]]:
    """Images that show what is usual, or what the training kept of its own."""
    if args.datalist is None and args.reference == REFERENCE:
        kept = read_reference(args.checkpoint[0]) or {}
        if args.method in kept:
            return kept
    choose_data(args, args.checkpoint[0])
    section = "training" if read_datalist(args.datalist).get("training") else args.section
    return [*load_datalist(args.datalist, section, args.dataset_dir, report=False)[: args.reference]]


def _ground_images(args: argparse.Namespace) -> list[str]:
    """Overlays and maps of the phrases on the images."""
    model = _load_model(args, args.checkpoint[0])
    ground = PhraseGrounder(model, _find_reference(args), args.method)
    texts, written = ground.encode(args.text), []
    for path in progress_bar(args.image, "grounding"):
        view = None
        for phrase, heat in zip(args.text, ground.ground_texts(path, texts), strict=True):
            view = view or open_view(path, model.settings)  # now that the network has its own: a volume is large
            base = Path(args.output) / map_name(path, phrase)
            written += write_map(view, heat, base, path, args.threshold)
            say(f"{visible(path)}: {phrase!r} is highest at {describe_peak(view, heat)}.")
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
    images = []
    for path in progress_bar(args.image, "grounding"):
        entry, report = found[path], found[path]["report"]
        sentences = [text for text in model.clean(report) if model.knows(text)]
        of_sentences: Any = by_sentence.ground_texts(entry, by_sentence.encode(sentences)) if sentences else []
        words, encoded = by_word.encode_words(report)
        view = open_view(entry, model.settings)
        shown = [
            [(_thumbnail(view, view.draw_heat(heat)), text) for text, heat in zip(texts, maps, strict=True)]
            for texts, maps in ((sentences, of_sentences), (words, by_word.ground_texts(entry, encoded)))
        ]
        images.append((Path(path).name, _thumbnail(view, _whole(view)), *shown))
    page = f"{args.output}/words.html"
    write_page(page, "Word by word", "words.html", images=images, volumes=model.spatial_dims == 3)
    return [page]


def _whole(view: RadiographView | VolumeView) -> Image.Image:
    return view.draw(size=PANEL) if isinstance(view, VolumeView) else Image.fromarray(view.pixels.byte().numpy())


def _thumbnail(view: RadiographView | VolumeView, picture: Image.Image) -> str:
    """For a page: a radiograph made small, or the planes of a volume, which are drawn so."""
    return data_uri(picture, THUMBNAIL) if view.planes == 1 else data_uri(picture, kind="JPEG")


def _evaluate(args: argparse.Namespace) -> list[str]:
    """The figures of all annotated findings of a section, and overlays of the first."""
    chosen = (dict(args.phrases), args.mask_key, args.spatial_dims)
    regions = load_regions(args.datalist, args.section, args.dataset_dir, *chosen)
    figures = GroundingFigures(args.tolerance)
    pictures: list[tuple[str, str]] = []
    reference = _find_reference(args)
    for number, checkpoint in enumerate(args.checkpoint):
        ground = PhraseGrounder(_load_model(args, checkpoint), reference, args.method)
        for region, heat in measure_regions(ground, regions, figures, checkpoint):
            if number == 0 and len(pictures) < args.overlays:
                view, file = open_view(region.image, ground.model.settings), path_of(region.image)
                picture = view.draw_heat(heat, region.mask)
                name = f"{len(pictures):03d}_{map_name(file, region.name)}.png"
                save_picture(picture, Path(args.output) / "overlays" / name)
                pictures.append((_thumbnail(view, picture), f"{region.name}: {Path(file).name}"))
    table, page = Path(args.output) / "grounding.csv", Path(args.output) / "grounding.html"
    figures.write(table)
    note = "Where the network sees each finding (orange), and the outline of where it was annotated (blue)."
    volumes = ground.model.spatial_dims == 3
    write_page(page, "Grounding", "overlays.html", note=note, pictures=pictures, volumes=volumes)
    count = len(figures.rows) // len(args.checkpoint)
    say(f"{count} findings in the section '{args.section}', maps of the method '{args.method}':")
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
    if args.threshold is not None and not 0 < args.threshold <= 1:
        raise DataError(f"--threshold must be more than 0 and at most 1, got {args.threshold:g}.")
    if all(name == RANDOM for name in args.checkpoint):
        raise DataError("--checkpoint needs a model_pretrain.pt, whose network the random one is.")
    args.spatial_dims = read_model_settings(args.checkpoint[0], required=True).get("spatial_dims", 2)
    refuse_missing(args.image, args.spatial_dims)
    if args.evaluate or args.words or args.dataset_dir or args.datalist:
        choose_data(args, args.checkpoint[0])
    tasks = ((args.text, _ground_images), (args.words, _ground_words), (args.evaluate, _evaluate))
    return [path for wanted, task in tasks if wanted for path in task(args)]
