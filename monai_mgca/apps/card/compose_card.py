# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Measures a pretrained model and writes the page about it: what ``mgca card`` does."""

from __future__ import annotations

import argparse
import datetime
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.metrics import EmbeddingCollapseMetric

import monai_mgca
from monai_mgca.apps.card.card_content import (
    best_and_worst,
    choose_regions,
    describe_settings,
    rank_pairs,
    shown_names,
)
from monai_mgca.apps.card.card_findings import negation_table, zero_shot_table
from monai_mgca.apps.card.card_page import write_card
from monai_mgca.apps.card.machine_card import write_machine_cards
from monai_mgca.apps.choose_data import choose_data
from monai_mgca.apps.ground.grounding_reference import read_reference
from monai_mgca.apps.ground.phrase_grounder import PhraseGrounder
from monai_mgca.apps.ground.region import AnyRegion, Region
from monai_mgca.apps.ground.regions import load_regions
from monai_mgca.apps.image_text_model import PretrainedModel, load_pretrained
from monai_mgca.data import load_datalist, read_datalist
from monai_mgca.data.entry import SECTIONS, Entry
from monai_mgca.data.image_item import image_of, path_of
from monai_mgca.metrics import chance_retrieval, compute_retrieval
from monai_mgca.options import bundle_root
from monai_mgca.utils import DataError
from monai_mgca.utils.progress import progress_bar
from monai_mgca.visualize.gallery import show_volume, thumbnail
from monai_mgca.visualize.image_view import open_view
from monai_mgca.visualize.page import data_uri
from monai_mgca.visualize.plot_training_curves import draw_training_curves, has_matplotlib, read_training_curves

__all__ = ["compose_card"]

logger = logging.getLogger(__name__)

KS = (1, 5, 10)
NO_CURVES = 'The curves are not drawn, because matplotlib is missing: pip install "monai-mgca[probe]".'
PAIRS, MAPS, REFERENCE = 10, 6, 64
PIXELS = 320


def _curves(args: argparse.Namespace) -> dict[str, str]:
    """The picture of the curves, or why there is none."""
    curves = read_training_curves(args.logdir)
    if not curves:
        note = "There are no event files of a pretraining: it writes them to its output_dir, which --logdir names."
    elif not has_matplotlib:
        note = NO_CURVES
    else:
        return {"picture": data_uri(draw_training_curves(curves)), "note": _epochs(curves)}
    return {"picture": "", "note": note}


def _epochs(curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """How long the training was, and which epoch is the best one beside the last."""
    last, losses = curves["train_loss"][-1][0], curves.get("val_loss")
    if not losses:
        return f"{last} epochs."
    best, value = min(losses, key=lambda pair: pair[1])
    lowest = f"{last} epochs. The loss of the validation is lowest in epoch {best} ({value:.4f})"
    if best == last:
        return f"{lowest}, the last one."
    return f"{lowest}; after epoch {losses[-1][0]} it is {losses[-1][1]:.4f}."


def _retrieval(image: torch.Tensor, report: torch.Tensor, tokens: torch.Tensor) -> dict[str, Any]:
    """The table of retrieval, and the collapse of both."""
    figures = compute_retrieval(image, report, tokens, KS) | chance_retrieval(tokens, KS)
    rows = [
        (title, [figures[f"{name}_recall_at_{k}"] for k in KS], figures[f"{name}_median_rank"])
        for title, name in (
            ("image to report", "image_to_report"),
            ("report to image", "report_to_image"),
            ("chance", "chance"),
        )
    ]
    collapse: Any = EmbeddingCollapseMetric(include_indicators=["effective_rank"])
    scores = [float(collapse(part)["effective_rank_score"]) for part in (image, report)]
    return {"rows": rows, "ks": KS, "collapse": dict(zip(("images", "reports"), scores, strict=True))}


def _regions(model: PretrainedModel, data: Mapping[str, Any], args: argparse.Namespace) -> list[AnyRegion]:
    """Findings to show: those with boxes, else those that the labels name."""
    entries = data["entries"]
    images = {entry["image"] for entry in entries}
    regions: Sequence[AnyRegion]
    if data["box_classes"] and any(entry.get("boxes") for entry in entries):
        regions = load_regions(args.datalist, args.section, args.dataset_dir, spatial_dims=model.spatial_dims)
    else:
        nowhere = torch.zeros(1, 1)
        regions = [
            Region(image_of(entry), name, name, nowhere)
            for entry in entries
            for name, label in zip(data["classes"], entry.get("labels") or (), strict=False)
            if label == 1
        ]
    known = {phrase: model.knows(phrase) for phrase in dict.fromkeys(region.phrase for region in regions)}
    return choose_regions([r for r in regions if path_of(r.image) in images and known[r.phrase]], MAPS)


def _heat_maps(model: PretrainedModel, data: Mapping[str, Any], args: argparse.Namespace) -> list[dict[str, Any]]:
    """The map of each finding's phrase over its image, with the outline where there is one."""
    regions = _regions(model, data, args)
    if not regions or model.network.window_size is not None:  # which maps by attribution are not made of
        return []
    ground = PhraseGrounder(model, _usual(data, args))
    names = {entry["image"]: name for entry, name in zip(data["entries"], data["names"], strict=True)}
    maps = []
    for region in progress_bar((region.filled() for region in regions), "heat maps", len(regions)):
        heat, drawn = ground(region.image, [region.phrase])[0], bool(region.mask.any())
        view = open_view(region.image, model.settings)
        picture = view.draw_heat(heat, region.mask if drawn else None)
        shown = data_uri(picture, PIXELS) if view.planes == 1 else data_uri(picture, kind="JPEG")
        item = {"picture": shown, "finding": region.name, "name": names[path_of(region.image)]}
        # a phrase may be a report's
        item["phrase"] = region.phrase if args.with_text and region.phrase != region.name else ""
        maps.append(item | {"drawn": drawn, "hit": drawn and bool(region.mask.flatten()[heat.argmax()])})
    return maps


def _usual(data: Mapping[str, Any], args: argparse.Namespace) -> list[Any] | dict[str, list[torch.Tensor]]:
    """What the maps compare with: training images, of the data or what the weights' training kept; else those shown."""
    if read_datalist(args.datalist).get("training"):
        training = load_datalist(args.datalist, "training", args.dataset_dir, report=False)
        return [*training[:REFERENCE]]
    return read_reference(args.checkpoint) or data["entries"][:REFERENCE]


def _maps_note(maps: Sequence[Mapping[str, Any]]) -> str:
    """What is said of maps that mostly miss."""
    drawn = [item for item in maps if item["drawn"]]
    if 2 * sum(item["hit"] for item in drawn) >= len(drawn):
        return ""
    return (
        "Most of these maps miss their finding, as those of short trainings and few pairs do. For the built-in sample "
        "the section 'Better maps' of docs/grounding.md has a run of a quarter of an hour, whose maps are within 3 % "
        "of the image's side from two findings in three; on your own data train longer, on more pairs."
    )


def _load(args: argparse.Namespace) -> dict[str, Any]:
    document = read_datalist(args.datalist)
    entries = load_datalist(args.datalist, args.section, args.dataset_dir)
    chosen = entries[: args.limit]
    if len(chosen) < 2:
        raise DataError(f"{args.datalist} has one image in '{args.section}': a card needs two or more.")
    return {
        "entries": chosen,
        "names": shown_names(chosen),
        "all": len(entries),
        "counts": {section: len(document[section]) for section in SECTIONS if document.get(section)},
        "set": str(document.get("name", "")),
        "hash": str(document.get("hash", "")),
        **{key: [str(name) for name in document.get(key) or []] for key in ("classes", "box_classes")},
    }


def _picture(model: PretrainedModel, entry: Entry) -> str:
    """A radiograph, or three planes of a volume."""
    if model.spatial_dims == 3:
        return show_volume(image_of(entry), entry.get("boxes") or (), model.settings, slices=0).planes
    return thumbnail(entry["image"])


def compose_card(args: argparse.Namespace) -> list[str]:
    """Measure a pretrained model, and write the page about it.

    Args:
        args: of ``mgca card``.

    Returns:
        The paths of the page.

    Raises:
        DataError: when the options or the data do not fit.
        CheckpointError: when the weights cannot be read.
    """
    root = bundle_root()
    args.own_prompts = args.prompts is not None
    args.checkpoint = args.checkpoint or f"{root}/models/model_pretrain.pt"
    args.prompts = args.prompts or f"{root}/configs/prompts.json"
    args.output = args.output or f"{root}/eval/card.html"
    if args.logdir is not None and not os.path.isdir(args.logdir):
        raise DataError(f"There is no folder {args.logdir}: --logdir is the output_dir of a training.")
    if not has_matplotlib:
        logger.warning(NO_CURVES)  # now: the page takes a while
    if args.limit is not None and args.limit < 2:
        raise DataError(f"--limit must be 2 or more, got {args.limit}.")
    model = load_pretrained(args.checkpoint)
    args.logdir = args.logdir or f"{root}/eval{'/volume' if model.spatial_dims == 3 else ''}"
    choose_data(args, args.checkpoint)
    data = _load(args)
    entries, reports = data["entries"], [str(entry["report"]) for entry in data["entries"]]
    image, report = model.embed_images(entries), model.embed_reports(reports)
    tokens = model.report_tokens(reports)

    def show(pairs: Sequence[Any]) -> list[dict[str, Any]]:
        return [
            pair._asdict()
            | {"picture": _picture(model, entries[pair.row]), "name": data["names"][pair.row]}
            | {"report": reports[pair.row] if args.with_text else ""}
            for pair in progress_bar(pairs, "thumbnails")
        ]

    maps = _heat_maps(model, data, args)
    best, worst = best_and_worst(rank_pairs(image, report, tokens), PAIRS)
    values = {
        "settings": describe_settings(args.checkpoint),
        "version": monai_mgca.__version__,
        "date": datetime.date.today().isoformat(),
        "section": args.section,
        "data": data,
        "with_text": args.with_text,
        "curves": _curves(args),
        "retrieval": _retrieval(image, report, tokens),
        "zero_shot": zero_shot_table(model, image, data, args),
        "negation": negation_table(model, image, data),
        "pairs": {"The most similar pairs": show(best), "The least similar pairs": show(worst)},
        "maps": maps,
        "maps_note": _maps_note(maps),
        "volumes": model.spatial_dims == 3,
    }
    write_card(args.output, **values)
    return [args.output, *write_machine_cards(args.output, values)]
