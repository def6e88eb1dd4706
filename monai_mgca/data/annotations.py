# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Masks, boxes and labels of an entry: which of them no training could take."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from monai_mgca.data.box_problems import image_box_problems, shown, volume_box_problems
from monai_mgca.data.entry import Entry, has_value
from monai_mgca.data.paths import file_problem
from monai_mgca.io import kind_of
from monai_mgca.io.dicom.dicom_file import read_dicom
from monai_mgca.io.pictures import displayed_size
from monai_mgca.io.volumes.volume_grid import VolumeGrid, axes_onto, read_grid
from monai_mgca.transforms.load_mask import LoadMask
from monai_mgca.transforms.load_radiograph import LoadRadiograph
from monai_mgca.utils import DataError

__all__ = ["annotation_problems", "image_size"]


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """The height and width of a radiograph, from the file's header where it can be read from there.

    Args:
        path: a file that :class:`monai_mgca.transforms.LoadRadiograph` reads.

    Raises:
        DataError: when the file cannot be read.

    Example::

        from PIL import Image

        Image.new("L", (60, 40)).save("radiograph.png")
        print(image_size("radiograph.png"))  # (40, 60)
    """
    try:
        kind = kind_of(path)
        if kind == "picture":
            with Image.open(path) as image:
                return displayed_size(image)
        if kind == "dicom":
            header = read_dicom(path, stop_before_pixels=True)
            return int(header.Rows), int(header.Columns)
    except Exception:  # the reader below reports what is wrong
        pass
    height, width = LoadRadiograph()(path).shape[1:]
    return height, width


def annotation_problems(
    entry: Entry,
    base: str,
    classes: Sequence[str] | None = None,
    box_classes: Sequence[str] | None = None,
    mask_keys: Sequence[str] = (),
    mask_classes: Sequence[str] | None = None,
    spatial_dims: int = 2,
    open_masks: bool = True,
) -> Iterator[tuple[str, str]]:
    """What is wrong with the annotations that an entry of a datalist has.

    Args:
        entry: with "image", and perhaps "labels", "boxes" and "box_labels", and masks.
        base: the dataset folder, a real path.
        classes: names of the labels; None leaves their number open.
        box_classes: names of the boxes' classes; None leaves their number open.
        mask_keys: the keys of masks.
        mask_classes: names of the masks' classes; None leaves open what a mask's values are.
        spatial_dims: 2 of radiographs, 3 of volumes, whose boxes are [x0, y0, z0, x1, y1, z1] in millimeters (RAS+).
        open_masks: look at the values of masks, too; of volumes this takes as long as training does to read them, while
            their headers say where they lie.

    Returns:
        (file, reason) of each problem.

    Example::

        entry = {"image": "1.png", "labels": [1, 0]}
        print(list(annotation_problems(entry, ".", classes=["edema"])))  # 1.png: 2 labels for 1 class
    """
    name = str(entry.get("image"))
    if has_value(entry, "labels"):
        yield from ((name, reason) for reason in _label_problems(entry["labels"], classes))
    masks = [entry.get(key) for key in mask_keys if has_value(entry, key)]
    if not masks and not has_value(entry, "boxes"):
        return
    path = os.path.join(base, name)
    find: Callable[..., Iterator[str]]
    try:
        size: Any
        if spatial_dims == 3:
            size, find = _grid_of(entry, path), volume_box_problems
        else:
            size, find = image_size(path), image_box_problems
    except DataError as error:
        yield name, str(error)
        return
    if has_value(entry, "boxes"):
        boxes, labels = entry["boxes"], entry.get("box_labels")
        yield from ((name, reason) for reason in find(boxes, labels, size, box_classes))
    for mask in masks:
        load = LoadMask(1 if isinstance(mask, list) else len(mask_classes or ()) or 1, spatial_dims)
        misfit = partial(_volume_misfit, open_mask=open_masks) if spatial_dims == 3 else _image_misfit
        yield from _mask_problems(mask, name, base, partial(misfit, load=load, size=size, name=name))


def _grid_of(entry: Entry, path: str) -> VolumeGrid:
    """The grid of a volume, with the voxel size that its entry gives, as LoadVolumed reads it."""
    grid, spacing = read_grid(path), entry.get("spacing")
    if spacing is None:
        return grid
    affine = np.array(grid.affine, dtype=float)
    affine[:3, :3] *= np.asarray(spacing, dtype=float) / np.linalg.norm(affine[:3, :3], axis=0)
    return VolumeGrid(grid.shape, affine)


def _label_problems(labels: Any, classes: Sequence[str] | None) -> Iterator[str]:
    if not isinstance(labels, list):
        yield f"labels are no list: {shown(labels)}"
        return
    if classes is not None and len(labels) != len(classes):
        yield f"{len(labels)} labels for {len(classes)} classes"
    for value in labels:
        if value not in (1, 0, -1, None):
            yield f"the label {shown(value)} is none of 1 (present), 0 (absent), -1 (uncertain), null (unknown)"


def _mask_problems(mask: Any, name: str, base: str, misfit: Callable[[Any], str | None]) -> Iterator[tuple[str, str]]:
    for one in mask if isinstance(mask, list) else [mask]:
        if not isinstance(one, str | Mapping):
            yield name, "a mask is neither a path nor run lengths"
            continue
        file = one if isinstance(one, str) else name  # run lengths are reported under their image
        if isinstance(one, str):
            if reason := file_problem(base, one):
                yield file, f"mask: {reason}"
                continue
            one = os.path.join(base, one)
        try:
            if reason := misfit(one):
                yield file, reason
        except DataError as error:
            yield file, f"mask: {error}"


def _image_misfit(mask: Any, load: LoadMask, size: tuple[int, int], name: str) -> str | None:
    found = tuple(load(mask).shape[1:])
    if found == size:
        return None
    return f"mask of {found[1]} x {found[0]} pixels on the image {name} of {size[1]} x {size[0]}"


def _volume_misfit(mask: Any, load: LoadMask, size: VolumeGrid, name: str, open_mask: bool) -> str | None:
    if isinstance(mask, Mapping):
        raise DataError("run lengths are of radiographs; write that of a volume as NIfTI.")
    grid = read_grid(mask, "mask")
    if axes_onto(grid, size) is not None:
        if open_mask:
            load(mask)
        return None
    if sorted(grid.shape) != sorted(size.shape):
        return f"mask of {grid} on the volume {name} of {size}; resample it onto the volume's voxels"
    far = np.linalg.norm(grid.corners[:, None] - size.corners, axis=2).min(1).max()  # whatever the order of corners
    return (
        f"mask of {grid} lies elsewhere than the volume {name} of {size}, by up to {far:.1f} mm; write the volume's "
        "affine into it if it was lost, or resample it"
    )
