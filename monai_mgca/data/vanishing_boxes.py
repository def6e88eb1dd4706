# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Boxes that would be smaller than a pixel at the size of training."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from monai_mgca.data.annotations import image_size as size_of
from monai_mgca.utils import DataError
from monai_mgca.utils.console import name_some
from monai_mgca.utils.dist import rank
from monai_mgca.utils.progress import map_in_threads

__all__ = ["refuse_vanishing_boxes"]

logger = logging.getLogger(__name__)

# No side of a radiograph is longer, in pixels: of boxes that are large enough for it no header is looked at.
LARGEST = 2**14


def refuse_vanishing_boxes(place: str, items: Sequence[Mapping[str, Any]], image_size: int) -> None:
    """Count the boxes that are narrower or lower than a pixel at the network's size in the log; refuse if all are.

    Args:
        place: the file and section, for messages.
        items: with "image", an absolute path, and "boxes".
        image_size: to which the longer side of an image is resized.

    Raises:
        DataError: when there are boxes, and none is left.

    Example::

        refuse_vanishing_boxes("dataset.json", [{"image": "/data/1.png", "boxes": [[0, 0, 90, 90]]}], image_size=224)
    """
    items = [item for item in items if item["boxes"]]

    def vanishing(item: Mapping[str, Any]) -> int:
        boxes = np.asarray(item["boxes"], dtype=float).reshape(-1, 4)
        sides = (boxes[:, 2:] - boxes[:, :2]).min(1)
        if sides.min() * image_size >= LARGEST:
            return 0
        return int((sides * image_size < max(size_of(item["image"]))).sum())

    counts = map_in_threads(vanishing, items, "measuring boxes")
    gone, total = sum(counts), sum(len(item["boxes"]) for item in items)
    if not gone:
        return
    files = name_some(item["image"] for item, count in zip(items, counts, strict=True) if count)
    message = f"{place}: {gone} of {total} boxes are smaller than a pixel at the network's image_size of {image_size}"
    if gone == total:
        raise DataError(f"{message}: nothing is left. Take a larger --image_size ({files}).")
    if rank() == 0:
        logger.warning(f"{message}, and are left out; a larger --image_size keeps them. They are of {files}.")
