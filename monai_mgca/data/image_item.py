# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""An image by its path, or by its entry of a datalist, which may say of a volume what its file lacks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from monai.utils import CommonKeys

__all__ = ["ImageLike", "image_item", "image_of", "path_of"]

ImageLike = str | os.PathLike | Mapping[str, Any]
"""A path, or a mapping whose "image" is one."""

# what LoadVolumed reads of an entry
_OF_THE_FILE = ("rescale", "spacing")


def path_of(image: ImageLike) -> str:
    """The path of an image.

    Args:
        image: a path or an entry.

    Example::

        print(path_of({"image": "1.png", "report": "No nodule."}))  # 1.png
    """
    return str(image[CommonKeys.IMAGE] if isinstance(image, Mapping) else image)


def image_item(image: ImageLike) -> dict[str, Any]:
    """What transforms of the image alone take: the path, and what the entry says of the values in the file.

    Args:
        image: a path or an entry.

    Example::

        print(image_item({"image": "1.nii.gz", "report": "No nodule.", "rescale": [1, -1024]}))
    """
    known = image if isinstance(image, Mapping) else {}
    return {CommonKeys.IMAGE.value: path_of(image), **{key: known[key] for key in _OF_THE_FILE if key in known}}


def image_of(entry: Mapping[str, Any]) -> ImageLike:
    """An entry's image without the rest of it: its path, unless the entry says what its file lacks.

    Args:
        entry: of a datalist.

    Example::

        print(image_of({"image": "1.png", "report": "No nodule."}))  # 1.png
    """
    item = image_item(entry)
    return item if len(item) > 1 else path_of(entry)
