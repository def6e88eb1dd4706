# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The images of a section with their labels as numbers and their patients, for figures that are computed in one go."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np

from monai_mgca.apps.known_labels import resolve_labels
from monai_mgca.data import load_labeled, read_datalist
from monai_mgca.transforms import ResolveUncertainLabels

__all__ = ["LabeledSet", "load_set"]


class LabeledSet(NamedTuple):
    """Images of a section and their labels."""

    items: list[dict[str, Any]]  # with "image", "label" as in the datalist, "patient" and "row"
    labels: np.ndarray  # (N, C), nan where unknown


def load_set(args: argparse.Namespace, section: str) -> LabeledSet:
    """Load a section with the labels of some classes.

    Args:
        args: "datalist", "dataset_dir", "classes", "spatial_dims", "uncertain" and "label_mode" of a command.
        section: of the datalist.

    Raises:
        DataError: when the data are not as :func:`monai_mgca.data.load_labeled` needs them, or a label does not suit
            the mode, naming the image.
    """
    kind = {"classes": args.classes, "spatial_dims": args.spatial_dims}
    items = load_labeled(args.datalist, section, "classification", args.dataset_dir, **kind)
    resolve = ResolveUncertainLabels(args.uncertain, args.classes, exclusive=args.label_mode == "multiclass")
    for row, (item, entry) in enumerate(zip(items, read_datalist(args.datalist)[section], strict=True)):
        item |= {"patient": entry.get("patient", item["image"]), "row": row}
    return LabeledSet(items, resolve_labels([(item["image"], item["label"]) for item in items], resolve))
