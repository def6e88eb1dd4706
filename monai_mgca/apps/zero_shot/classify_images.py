# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Classifies images and writes the table of probabilities: what ``mgca zero-shot`` does."""

from __future__ import annotations

import argparse
import os

from monai_mgca.apps.image_text_model import load_pretrained
from monai_mgca.apps.load_images import find_below, refuse_missing
from monai_mgca.apps.zero_shot.zero_shot_classifier import ZeroShotClassifier
from monai_mgca.io.csv_file import write_csv
from monai_mgca.options import bundle_root
from monai_mgca.utils.console import say
from monai_mgca.utils.errors import DataError
from monai_mgca.weights import read_model_settings

__all__ = ["classify_images"]

SHOWN = 20


def classify_images(args: argparse.Namespace) -> list[str]:
    """Print the probabilities of the first images, and write those of all.

    Args:
        args: of ``mgca zero-shot``.

    Returns:
        The path of the table.

    Raises:
        DataError: when there is no image, or the prompts do not suit the model.
    """
    root = bundle_root()
    checkpoint = args.checkpoint or f"{root}/models/model_pretrain.pt"
    dims = read_model_settings(checkpoint).get("spatial_dims", 2)
    refuse_missing(args.image, dims)
    images = [*args.image, *([entry["image"] for entry in find_below(args.images, dims)] if args.images else [])]
    if not images:
        raise DataError("Nothing to classify: give --image FILE or --images DIR.")
    if not args.temperature > 0:
        raise DataError(f"--temperature must be more than 0, got {args.temperature:g}.")
    model = load_pretrained(checkpoint)
    prompts = args.prompts or f"{root}/configs/prompts.json"
    calibrated = not args.uncalibrated
    classify = ZeroShotClassifier(model, prompts, args.classes, args.temperature, calibrated).to(model.device)
    table = classify.classify(model.embed_images(images).to(model.device)).cpu().tolist()
    names = [os.path.relpath(path, args.images) if args.images and path not in args.image else path for path in images]
    width = max(map(len, [*names[:SHOWN], "image"]))
    say(f"{'image':{width}s}  " + "  ".join(f"{name:>12s}" for name in classify.classes))
    for name, row in list(zip(names, table, strict=True))[:SHOWN]:
        say(f"{name:{width}s}  " + "  ".join(f"{value:12.3f}" for value in row))
    output = args.output or f"{root}/eval/zero_shot/images.csv"
    if len(names) > SHOWN:
        say(f"... and {len(names) - SHOWN} more in {output}")
    _explain(classify)
    thresholds = [(classify.classes.index(name), threshold) for name, threshold in classify.thresholds.items()]
    rows = [
        [name, *(f"{value:.6f}" for value in row), *(int(row[column] >= lowest) for column, lowest in thresholds)]
        for name, row in zip(names, table, strict=True)
    ]
    write_csv(output, [["image", *classify.classes, *(f"{name}_present" for name in classify.thresholds)], *rows])
    return [output]


def _explain(classify: ZeroShotClassifier) -> None:
    """What the probabilities mean."""
    if classify.thresholds:
        points = ", ".join(f"{name} from {threshold:.3f} on" for name, threshold in classify.thresholds.items())
        say(f"Calibrated by mgca calibrate, and present: {points}.")
    if others := [name for name in classify.classes if name not in classify.thresholds]:
        of = f"Of {', '.join(others)} " if classify.thresholds else ""
        say(f"{of}0.5 is as near to the texts with the finding as to those without; it is no frequency.")
