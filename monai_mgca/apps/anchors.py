# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Fits the anchors of a detector to boxes, by k-means."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
from monai.utils import optional_import

from monai_mgca.data.datalist import load_datalist
from monai_mgca.data.entry import Entry
from monai_mgca.transforms import LoadRadiograph
from monai_mgca.utils import DataError
from monai_mgca.utils.progress import map_in_threads

KMeans, _ = optional_import("sklearn.cluster", name="KMeans")

__all__ = ["Anchors", "fit_anchors", "read_box_sizes"]


class Anchors(NamedTuple):
    """Sides in pixels for each level, heights / widths, and the mean overlap of a box with the best fitting anchor."""

    sizes: list[list[float]]
    ratios: list[float]
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


def fit_anchors(sizes: np.ndarray, levels: int = 3, per_level: int = 2, ratios: int = 3) -> Anchors:
    """Fit anchors to boxes by k-means, on the logarithms of sizes and of ratios.

    Args:
        sizes: (N, 2) widths and heights of boxes in pixels of the detector's images.
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
    width, height = sizes.T
    sides = _centers(np.log(width * height) / 2, levels * per_level)
    shapes = _centers(np.log(height / width), ratios)
    root = np.sqrt(shapes)
    anchors = np.stack((sides[:, None] / root, sides[:, None] * root), axis=-1).reshape(-1, 2)
    common = np.minimum(sizes[:, None], anchors[None]).prod(-1)
    overlap = common / (sizes.prod(-1)[:, None] + anchors.prod(-1)[None] - common)
    by_level = np.round(sides, 1).reshape(levels, per_level).tolist()
    return Anchors(by_level, np.round(shapes, 2).tolist(), float(overlap.max(1).mean()))


def _centers(logarithms: np.ndarray, count: int) -> np.ndarray:
    """The centers of the clusters, ascending."""
    fitted = KMeans(count, n_init=10, random_state=0).fit(logarithms[:, None])
    centers: np.ndarray = np.exp(np.sort(fitted.cluster_centers_[:, 0]))
    return centers
