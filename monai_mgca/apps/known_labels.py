# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The labels of a datalist's entries as numbers, nan where nothing is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from monai_mgca.data.entry import Entry
from monai_mgca.transforms import ResolveUncertainLabels
from monai_mgca.utils import DataError

__all__ = ["known_labels", "resolve_labels"]


def known_labels(entries: Sequence[Entry], classes: Sequence[str], chosen: Sequence[str]) -> np.ndarray:
    """
    Args:
        entries: N entries, whose "labels" are 1, 0, -1 (uncertain) or None (unknown) for each class.
        classes: names of the labels.
        chosen: C of the classes.

    Returns:
        (N, C) of 0 and 1, nan where uncertain or unknown.

    Raises:
        DataError: when the labels of an entry do not fit the classes, naming the image.

    Example::

        print(known_labels([{"image": "1.png", "labels": [1, -1]}], ["edema", "mass"], ["mass"]))  # [[nan]]
    """
    resolve = ResolveUncertainLabels("ignore", classes)
    columns = [list(classes).index(name) for name in chosen]
    unknown = [None] * len(classes)
    return resolve_labels([(entry["image"], entry.get("labels") or unknown) for entry in entries], resolve)[:, columns]


def resolve_labels(labels: Sequence[tuple[str, Any]], resolve: ResolveUncertainLabels) -> np.ndarray:
    """
    Args:
        labels: N images' names and labels, as a datalist has them.
        resolve: makes numbers of them.

    Returns:
        (N, C) of 0 and 1, nan where unknown.

    Raises:
        DataError: when labels do not fit, naming the image.

    Example::

        print(resolve_labels([("1.png", [1, -1])], ResolveUncertainLabels("zeros", ["edema", "mass"])))  # [[1. 0.]]
    """
    resolved = []
    for image, values in labels:
        try:
            resolved.append(resolve(values).numpy())
        except DataError as error:
            raise DataError(f"{image}: {error}") from None
    return np.array(resolved, dtype=float)
