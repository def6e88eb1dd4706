# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Loads masks of one or several classes: of radiographs from pictures, NIfTI or run lengths, of volumes from NIfTI."""

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
from monai.utils import ImageMetaKey, MetaKeys, SpaceKeys, TransformBackends
from PIL import Image

from monai_mgca.io import kind_of_name
from monai_mgca.io.limits import refuse_bomb
from monai_mgca.io.nifti_reader import RadiographNiftiReader
from monai_mgca.io.pictures import is_white_zero, upright
from monai_mgca.io.run_lengths import decode_rle
from monai_mgca.io.volumes.volume_grid import VolumeGrid, axes_onto, load_nifti, read_grid, turn_onto
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

    The mask of a volume is a NIfTI file, or a list of such, and becomes (C, X, Y, Z), uint8, with its affine, as
    :class:`LoadVolume` gives the volume. Masks of a list may be stored along other axes than the first of them, as long
    as their voxels are the same.

    Args:
        num_classes: C.
        spatial_dims: 2 of radiographs, 3 of volumes.

    Raises:
        DataError: when a file cannot be read, a value is no class, it is not clear what gray levels mean, or masks of
            one image differ in size or place; the message names the file.

    Example::

        from PIL import Image
        from monai_mgca.transforms import LoadMask

        Image.new("L", (30, 40), 255).save("mask.png")
        print(LoadMask()("mask.png").shape)  # (1, 40, 30)
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, num_classes: int = 1, spatial_dims: int = 2) -> None:
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
        self.num_classes, self.spatial_dims = num_classes, spatial_dims

    def __call__(self, mask: MaskSource | Sequence[MaskSource]) -> MetaTensor:
        """
        Args:
            mask: a path, a run-length object {"size": [H, W], "counts": [...]}, or a list of such, one a class.
        """
        if isinstance(mask, Sequence) and not isinstance(mask, str):
            if len(mask) != self.num_classes:
                raise DataError(f"{len(mask)} masks for {self.num_classes} classes: give one a class.")
            if self.spatial_dims == 3:
                return _load_volumes(mask, self.num_classes)
            planes = [_read_plane(item) for item in mask]
            if len({plane.shape for plane in planes}) > 1:
                raise DataError(f"masks of one image differ in size: {[_name(item) for item in mask]}.")
        elif self.spatial_dims == 3:
            return _load_volumes([mask], self.num_classes)
        elif self.num_classes == 1:
            planes = [_read_plane(mask)]
        else:
            planes = _read_classes(mask, self.num_classes)
        return MetaTensor(torch.from_numpy(np.stack(planes).astype(np.float32)))


def _load_volumes(masks: Sequence[Any], num_classes: int) -> MetaTensor:
    """Label maps of a volume, one of all classes or one a class, along the axes of the first."""
    parts: list[np.ndarray] = []
    first: VolumeGrid | None = None
    for mask in masks:
        values, grid = _read_volume(mask)
        if first is None:
            first = grid
        elif (axes := axes_onto(grid, first)) is None:
            raise DataError(f"masks of one volume differ in size or place: {[_name(item) for item in masks]}.")
        else:
            values = turn_onto(values, axes)
        parts += [_foreground(mask, values)] if len(masks) == num_classes else _split(mask, values, num_classes)
    meta: dict[str, Any] = {MetaKeys.SPACE: SpaceKeys.RAS, ImageMetaKey.FILENAME_OR_OBJ: os.fspath(masks[0])}
    if first is not None:
        meta |= {MetaKeys.AFFINE: first.affine, MetaKeys.SPATIAL_SHAPE: np.asarray(first.shape)}
    return MetaTensor.ensure_torch_and_prune_meta(np.stack(parts).astype(np.uint8), meta)


def _read_volume(mask: MaskSource) -> tuple[np.ndarray, VolumeGrid]:
    if not isinstance(mask, (str, os.PathLike)):
        raise DataError(f"the mask of a volume is a path, got {type(mask).__name__}.")
    if kind_of_name(os.fspath(mask)) != "nifti":
        raise DataError(f"cannot read the mask {mask}: that of a volume is NIfTI, .nii or .nii.gz.")
    grid = read_grid(mask, "mask")
    try:
        return np.asarray(load_nifti(mask).dataobj).reshape(grid.shape), grid
    except Exception as error:  # what nibabel and zlib raise of a file that was cut off
        raise DataError(f"cannot read the mask {mask}: {type(error).__name__}: {error}") from error


def _read_plane(mask: MaskSource) -> np.ndarray:
    return _foreground(mask, *_read(mask))


def _foreground(mask: MaskSource, values: np.ndarray, lossy: bool = False) -> np.ndarray:
    try:
        return find_foreground(values, lossy)
    except DataError as error:
        raise DataError(f"the mask {_name(mask)} cannot be used: {error}") from None


def _read_classes(mask: MaskSource, num_classes: int) -> list[np.ndarray]:
    return _split(mask, _read(mask)[0], num_classes)


def _split(mask: MaskSource, values: np.ndarray, num_classes: int) -> list[np.ndarray]:
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
        spatial_dims: 2 of radiographs, 3 of volumes.
    """

    backend = LoadMask.backend

    def __init__(
        self, keys: KeysCollection, num_classes: int = 1, allow_missing_keys: bool = False, spatial_dims: int = 2
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.load = LoadMask(num_classes, spatial_dims)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.load(d[key])
        return d


LoadMaskD = LoadMaskDict = LoadMaskd
