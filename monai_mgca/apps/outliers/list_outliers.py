# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Lists the images that are unlike those of a pretraining: what ``mgca outliers`` does."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from monai_mgca.apps.choose_data import choose_data
from monai_mgca.apps.load_images import find_below, refuse_missing
from monai_mgca.apps.outliers.outlier_detector import OutlierDetector, fit_outliers
from monai_mgca.data import load_datalist, read_datalist
from monai_mgca.data.entry import SECTIONS
from monai_mgca.data.paths import find_dataset_dir
from monai_mgca.handlers.outlier_saver import write_outlier_table
from monai_mgca.options import bundle_root
from monai_mgca.utils import DataError
from monai_mgca.utils.console import say
from monai_mgca.weights import outlier_path, read_model_settings

__all__ = ["list_outliers"]

SHOWN = 20


def list_outliers(args: argparse.Namespace) -> list[str]:
    """Print the images that are unlike those of the training, and write the distances of all.

    Args:
        args: of ``mgca outliers``.

    Returns:
        The paths of what was written.

    Raises:
        DataError: when there is no image, or the weights have no score.
        CheckpointError: when the weights cannot be read.
    """
    root = bundle_root()
    checkpoint = args.checkpoint or f"{root}/models/model_pretrain.pt"
    dims = read_model_settings(checkpoint, required=True).get("spatial_dims", 2)
    refuse_missing(args.image, dims)
    written = []
    if args.fit:
        written.append(_fit(checkpoint, args))
        if not args.image and not args.images:
            return written
    detector = OutlierDetector.load(checkpoint)
    if detector is None:
        raise DataError(
            f"Beside {checkpoint} is no outlier score of these weights: fit one to the data that they were trained on, "
            "mgca outliers --fit --dataset-dir DIR --checkpoint FILE."
        )
    images, names = _find_images(args, checkpoint, dims)
    distances = detector(images)
    flags = detector.score.flags(distances).tolist()
    output = args.output or f"{root}/eval/outliers.csv"
    rows = list(zip(names, distances.tolist(), flags, strict=True))
    _show(rows, detector.score.threshold, output)
    write_outlier_table(output, rows)
    return [*written, output]


def _fit(checkpoint: str, args: argparse.Namespace) -> str:
    """The path of the new score."""
    choose_data(args, checkpoint)
    held = "validation" if read_datalist(args.datalist).get("validation") else None
    data = load_datalist(args.datalist, "training", args.dataset_dir, report=False)
    held_out = load_datalist(args.datalist, held, args.dataset_dir, report=False) if held else []
    score = fit_outliers(checkpoint, data, held_out)
    say(f"The outlier score of {checkpoint} has the threshold {score.threshold:.2f}.")
    return str(outlier_path(checkpoint))


def _find_images(args: argparse.Namespace, checkpoint: str, dims: int) -> tuple[list[Any], list[str]]:
    """The images to look at, and their names in the table."""
    below = find_below(args.images, dims) if args.images else []
    images, names = [*args.image, *below], [*args.image]
    names += [os.path.relpath(entry["image"], args.images) for entry in below]
    if images:
        return images, names
    choose_data(args, checkpoint)
    document, base = read_datalist(args.datalist), find_dataset_dir(args.datalist, args.dataset_dir)
    for section in args.sections or [section for section in SECTIONS if document.get(section)] or ["training"]:
        images += load_datalist(args.datalist, section, args.dataset_dir, report=False)
    return images, [os.path.relpath(entry["image"], base) for entry in images]


def _show(rows: Sequence[tuple[str, float, bool]], threshold: float, output: str) -> None:
    flagged = sorted((row for row in rows if row[2]), key=lambda row: -row[1])
    say(f"{len(flagged)} of {len(rows)} images are unlike those of the training, at a distance above {threshold:.2f}.")
    if flagged:
        say(f"{'distance':>8s}  image")
    for name, distance, _ in flagged[:SHOWN]:
        say(f"{distance:8.2f}  {name}")
    if len(flagged) > SHOWN:
        say(f"... and {len(flagged) - SHOWN} more in {output}")
    say("Of images like the training's about one in twenty is above it, too.")
