# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Fits the anchors of a detector to boxes, by k-means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from monai.utils import ensure_tuple_rep, optional_import

from monai_mgca.data.datalist import load_datalist
from monai_mgca.data.entry import Entry
from monai_mgca.transforms import LoadRadiograph
from monai_mgca.utils import DataError
from monai_mgca.utils.progress import map_in_threads

KMeans, _ = optional_import("sklearn.cluster", name="KMeans")

__all__ = ["Anchors", "fit_anchors", "read_box_sizes", "read_volume_box_sizes"]


class Anchors(NamedTuple):
    """Sides in pixels for each level, heights / widths, and the mean overlap of a box with the best fitting anchor.

    Of volumes the sides are in voxels, and a ratio is the pair y / x, z / x.
    """

    sizes: list[list[float]]
    ratios: list[Any]
    overlap: float


def read_box_sizes(
    path: str | os.PathLike, image_size: int, dataset_dir: str | os.PathLike | None = None, section: str = "training"
) -> np.ndarray:
    """The widths and heights of all boxes, in pixels of images resized to ``image_size`` at their longer side.

    Args:
        path: the datalist JSON.
        image_size: height and width of the detector's images in pixels.
        dataset_dir: the folder that paths are relative to. Defaults to the datalist's own folder.
        section: "training", "validation" or "test".

    Returns:
        (N, 2), width and height.

    Raises:
        DataError: when the datalist or a file cannot be read, or a box is smaller than a pixel.
    """
    entries = [e for e in load_datalist(path, section, dataset_dir, report=False) if e.get("boxes")]
    load = LoadRadiograph()

    def sizes(entry: Entry) -> np.ndarray:
        boxes = np.asarray(entry["boxes"], dtype=float).reshape(-1, 4)
        if (boxes[:, 2:] - boxes[:, :2]).min() < 1 or boxes.max() <= 1:
            problem = "boxes are smaller than a pixel: coordinates are pixels, [x0, y0, x1, y1]"
            raise DataError(f"{entry['image']}: {problem}; `mgca check` lists all.")
        return (boxes[:, 2:] - boxes[:, :2]) * image_size / max(load(entry["image"]).shape[1:])

    return np.concatenate([np.zeros((0, 2)), *map_in_threads(sizes, entries, "measuring boxes", os.cpu_count())])


def read_volume_box_sizes(
    path: str | os.PathLike,
    voxel_size: Sequence[float] | float,
    dataset_dir: str | os.PathLike | None = None,
    section: str = "training",
) -> np.ndarray:
    """The sizes of all boxes of volumes, in voxels of the detector's volumes. No volume is opened.

    Args:
        path: the datalist JSON, with boxes in millimeters.
        voxel_size: millimeters of the detector's voxels, one number or one for each axis.
        dataset_dir: the folder that paths are relative to. Defaults to the datalist's own folder.
        section: "training", "validation" or "test".

    Returns:
        (N, 3), along x, y and z.

    Raises:
        DataError: when the datalist cannot be read, or a box has no six numbers or no size.
    """
    edge, found = np.array(ensure_tuple_rep(voxel_size, 3), dtype=float), [np.zeros((0, 3))]
    for entry in load_datalist(path, section, dataset_dir, report=False):
        for box in entry.get("boxes") or ():
            values = np.asarray(box, dtype=float)
            if values.shape != (6,) or (values[3:] <= values[:3]).any():
                problem = "boxes of volumes are [x0, y0, z0, x1, y1, z1] in millimeters of the world, RAS+"
                raise DataError(f"{entry['image']}: {problem}, got {box}; those of images need --image-size.")
            found.append((values[3:] - values[:3])[None] / edge)
    return np.concatenate(found)


def fit_anchors(sizes: np.ndarray, levels: int = 3, per_level: int = 2, ratios: int = 3) -> Anchors:
    """Fit anchors to boxes by k-means, on the logarithms of sizes and of ratios.

    Args:
        sizes: (N, 2) widths and heights of boxes in pixels of the detector's images, or (N, 3) of volumes in voxels.
        levels: number of levels of the detector's pyramid.
        per_level: number of sizes at each level.
        ratios: number of ratios, which all levels share.

    Raises:
        DataError: when there are fewer boxes than sizes to fit, or a box of no area.

    Example::

        sizes = np.exp(np.random.default_rng(0).normal(3, 0.5, (100, 2)))
        print(fit_anchors(sizes).sizes)
    """
    if len(sizes) < max(levels * per_level, ratios):
        raise DataError(f"{len(sizes)} boxes are too few to fit {levels * per_level} sizes and {ratios} ratios.")
    if (sizes <= 0).any():
        raise DataError("There are boxes of no area; `mgca check` lists them.")
    axes = sizes.shape[1]
    sides = _centers(np.log(sizes.prod(1, keepdims=True)) / axes, levels * per_level)[:, 0]
    shapes = _centers(np.log(sizes[:, 1:] / sizes[:, :1]), ratios)
    first = sides[:, None] / shapes.prod(1) ** (1 / axes)
    anchors = (first[..., None] * np.insert(shapes, 0, 1.0, axis=1)).reshape(-1, axes)
    common = np.minimum(sizes[:, None], anchors[None]).prod(-1)
    overlap = common / (sizes.prod(-1)[:, None] + anchors.prod(-1)[None] - common)
    by_level = np.round(sides, 1).reshape(levels, per_level).tolist()
    listed = np.round(shapes[:, 0] if axes == 2 else shapes, 2).tolist()
    return Anchors(by_level, listed, float(overlap.max(1).mean()))


def _centers(logarithms: np.ndarray, count: int) -> np.ndarray:
    """The centers (count, M) of the clusters of (N, M), ascending."""
    fitted = KMeans(count, n_init=10, random_state=0).fit(logarithms)
    centers: np.ndarray = np.exp(fitted.cluster_centers_[np.lexsort(fitted.cluster_centers_.T[::-1])])
    return centers
