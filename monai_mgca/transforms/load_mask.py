# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Loads masks of one or several classes, from pictures, NIfTI, DICOM or run lengths."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends
from PIL import Image

from monai_mgca.io.limits import refuse_bomb
from monai_mgca.io.nifti_reader import RadiographNiftiReader
from monai_mgca.io.pictures import is_white_zero, upright
from monai_mgca.io.run_lengths import decode_rle
from monai_mgca.transforms.foreground import find_foreground, read_gray, refuse_no_labels
from monai_mgca.utils import DataError

__all__ = ["LoadMask", "LoadMaskD", "LoadMaskDict", "LoadMaskd"]

MaskSource = str | os.PathLike | Mapping[str, Any]


class LoadMask(Transform):
    """Read the mask of a radiograph as (C, H, W), float32, 0 and 1, rows from top to bottom as displayed.

    A mask is an image file (PNG, NIfTI (W, H) or (W, H, 1), ...) or COCO's run-length object. Of one class, what is not
    zero belongs to it, or of gray levels what has at least half of the largest
    (:func:`monai_mgca.transforms.foreground.find_foreground`); of several classes in one mask, the values 1, 2, ... are
    the classes; a list of masks has one a class, which may overlap.

    Args:
        num_classes: C.

    Raises:
        DataError: when a file cannot be read, a value is no class, it is not clear what gray levels mean, or masks of
            one image differ in size; the message names the file.

    Example::

        from PIL import Image
        from monai_mgca.transforms import LoadMask

        Image.new("L", (30, 40), 255).save("mask.png")
        print(LoadMask()("mask.png").shape)  # (1, 40, 30)
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, num_classes: int = 1) -> None:
        self.num_classes = num_classes

    def __call__(self, mask: MaskSource | Sequence[MaskSource]) -> MetaTensor:
        """
        Args:
            mask: a path, a run-length object {"size": [H, W], "counts": [...]}, or a list of such, one a class.
        """
        if isinstance(mask, Sequence) and not isinstance(mask, str):
            if len(mask) != self.num_classes:
                raise DataError(f"{len(mask)} masks for {self.num_classes} classes: give one a class.")
            planes = [_read_plane(item) for item in mask]
            if len({plane.shape for plane in planes}) > 1:
                raise DataError(f"masks of one image differ in size: {[_name(item) for item in mask]}.")
        elif self.num_classes == 1:
            planes = [_read_plane(mask)]
        else:
            planes = _read_classes(mask, self.num_classes)
        return MetaTensor(torch.from_numpy(np.stack(planes).astype(np.float32)))


def _read_plane(mask: MaskSource) -> np.ndarray:
    values, lossy = _read(mask)
    try:
        return find_foreground(values, lossy)
    except DataError as error:
        raise DataError(f"the mask {_name(mask)} cannot be used: {error}") from None


def _read_classes(mask: MaskSource, num_classes: int) -> list[np.ndarray]:
    values, _ = _read(mask)
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=0, posinf=np.inf, neginf=-np.inf)
    try:
        refuse_no_labels(values, num_classes)
    except DataError as error:
        raise DataError(f"the mask {_name(mask)} cannot be used: {error}") from None
    return [values == index for index in range(1, num_classes + 1)]


def _name(mask: MaskSource) -> str:
    return os.fspath(mask) if isinstance(mask, (str, os.PathLike)) else "(run lengths)"


def _read(mask: MaskSource) -> tuple[np.ndarray, bool]:
    """The values of a mask, (H, W), and whether JPEG may have added to them."""
    if isinstance(mask, Mapping):
        return np.asarray(decode_rle(mask)), False
    if not isinstance(mask, (str, os.PathLike)):
        raise DataError(f"a mask is a path or run lengths, got {type(mask).__name__}.")
    path = Path(mask)
    try:
        if path.name.lower().endswith((".nii", ".nii.gz")):
            reader = RadiographNiftiReader(scale=False)
            return reader.get_data(reader.read(path))[0], False
        with Image.open(path) as image:
            refuse_bomb(image.size)
            values = read_gray(upright(image))
            if is_white_zero(image):
                values = (np.iinfo(values.dtype).max if values.dtype.kind in "iu" else values.max()) - values
            return values, image.format in ("JPEG", "MPO")
    except Exception as error:
        reason = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
        raise DataError(f"cannot read the mask {path}: {reason}") from error


class LoadMaskd(MapTransform):
    """Dictionary-based version of :class:`LoadMask`: the mask replaces what names it under each key.

    Args:
        keys: keys of the masks.
        num_classes: C.
        allow_missing_keys: do not raise where a key is missing.
    """

    backend = LoadMask.backend

    def __init__(self, keys: KeysCollection, num_classes: int = 1, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.load = LoadMask(num_classes)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.load(d[key])
        return d


LoadMaskD = LoadMaskDict = LoadMaskd
