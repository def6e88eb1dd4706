# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Pictures of a volume: three planes through a point, and a strip of axial slices, as radiologists look at them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import nibabel
import numpy as np
import torch
from PIL import Image, ImageDraw

from monai_mgca.data.image_item import ImageLike, image_item
from monai_mgca.transforms import LoadVolumed
from monai_mgca.visualize.overlay import draw_heat, draw_overlay

__all__ = ["VolumeView"]

# of each plane: the axes of its rows and columns (0 to the right, 1 to the front, 2 to the head), and its left side
PLANES = ((1, 0, "R"), (2, 0, "R"), (2, 1, "A"))
PERCENTILES = (0.5, 99.5)
GAP = 3


class VolumeView:
    """A volume on the screen: the head or the front on top, the patient's right on the left, true proportions.

    Slices are cut from the volume as it was loaded, and windowed one by one: of a CT of 600 MB nothing is copied.

    An upright index counts voxels to the right, the front and the head, however the file has them.

    Args:
        image: path of a NIfTI file or a DICOM series, or an entry of a datalist.
        settings: of a model, whose window it is shown in: "hu_min" and "hu_max", or "intensity" as "normalize".

    Raises:
        DataError: when it cannot be read.

    Example::

        import nibabel, numpy as np

        nibabel.save(nibabel.Nifti1Image(np.zeros((8, 9, 10), dtype=np.int16), np.eye(4)), "ct.nii.gz")
        VolumeView("ct.nii.gz", {"hu_min": -1000, "hu_max": 400}).draw().save("planes.png")
    """

    planes = 3

    def __init__(self, image: ImageLike, settings: Mapping[str, Any]) -> None:
        item: Any = image_item(image)
        loaded = LoadVolumed("image")(item)["image"]
        self.affine = np.asarray(loaded.affine, dtype=float)
        self.shape = tuple(loaded.shape[1:])
        self.orientation = nibabel.io_orientation(self.affine)
        self.values = self.upright(loaded[0].as_tensor())
        undo = nibabel.orientations.inv_ornt_aff(self.orientation, self.shape)
        self.upright_affine = self.affine @ undo
        self.sizes = np.linalg.norm(self.upright_affine[:3, :3], axis=0)
        if settings.get("intensity") == "normalize":
            self.window = tuple(np.percentile(self.values, PERCENTILES))
        else:
            self.window = (settings.get("hu_min", -1000), settings.get("hu_max", 400))

    def upright(self, values: torch.Tensor) -> np.ndarray:
        """(X, Y, Z) as the volume is stored -> the same with axes to the right, the front and the head; not copied."""
        turned: np.ndarray = nibabel.orientations.apply_orientation(values.numpy(), self.orientation)
        return turned

    @property
    def middle(self) -> tuple[int, ...]:
        """The upright index of the voxel in the middle."""
        return tuple(size // 2 for size in self.values.shape)

    def index_of(self, place: int) -> tuple[int, ...]:
        """The upright index of a voxel, by its place in the flattened volume as it is stored."""
        found = [0, 0, 0]
        stored = np.unravel_index(place, self.shape)
        for at, (axis, turn), size in zip(stored, self.orientation, self.shape, strict=True):
            found[int(axis)] = int(at) if turn > 0 else size - 1 - int(at)
        return tuple(found)

    def index_at(self, millimeters: Sequence[float]) -> tuple[int, ...]:
        """The upright index of the voxel that is nearest to a point of the world (RAS+)."""
        place = np.linalg.solve(self.upright_affine, [*millimeters, 1.0])[:3]
        return tuple(int(at) for at in np.clip(np.rint(place), 0, np.array(self.values.shape) - 1))

    def draw(self, point: Sequence[int] | None = None, size: int = 128) -> Image.Image:
        """The axial, coronal and sagittal plane through a point, side by side, with R or A on their left.

        Args:
            point: upright index; the middle unless given.
            size: pixels of the volume's longest side.
        """
        at = point or self.middle
        grays = (self._gray(plane, at, size) for plane in PLANES)
        return _beside(
            [
                _marked(Image.fromarray(gray.round().astype(np.uint8)), plane)
                for gray, plane in zip(grays, PLANES, strict=True)
            ]
        )

    def draw_heat(self, heat: torch.Tensor, region: torch.Tensor | None = None, size: int = 256) -> Image.Image:
        """The planes through the highest place of a heat map, in orange, and perhaps the outline of a region in blue.

        Args:
            heat: (X, Y, Z) as the volume is stored.
            region: (X, Y, Z) of 0 and 1.
            size: pixels of the volume's longest side.
        """
        at, limits = self.index_of(int(heat.argmax())), (float(heat.min()), float(heat.max()))
        warm, panels = self.upright(heat), []
        inside = None if region is None else self.upright(region)
        for plane in PLANES:
            gray = self._gray(plane, at, size)
            shown = _resize(_cut(warm, plane, at), gray.shape, Image.Resampling.BILINEAR)
            outline = None if inside is None else _resize(_cut(inside, plane, at), gray.shape, Image.Resampling.NEAREST)
            panels.append(_marked(draw_heat(gray, shown, outline, limits), plane))
        return _beside(panels)

    def draw_masks(self, masks: Iterable[torch.Tensor], size: int = 256) -> Image.Image:
        """The planes in which most of the masks is seen, each mask in a color; without any those of the middle.

        Args:
            masks: (X, Y, Z) of 0 and 1 each, as the volume is stored.
            size: pixels of the volume's longest side.
        """
        upright, panels = [self.upright(mask.cpu()) > 0 for mask in masks], []
        anywhere = np.any(upright, axis=0)
        areas = [anywhere.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
        at = tuple(int(area.argmax()) for area in areas) if anywhere.any() else self.middle
        for plane in PLANES:
            gray = self._gray(plane, at, size)
            shown = [_resize(_cut(mask, plane, at), gray.shape, Image.Resampling.NEAREST) for mask in upright]
            panels.append(_marked(draw_overlay(gray, shown), plane))
        return _beside(panels)

    def draw_boxes(self, boxes: Iterable[tuple[Sequence[float], int, str]], size: int = 256) -> Image.Image:
        """The planes through the middle of the first box, with those that reach them; without one those of the middle.

        Args:
            boxes: [x0, y0, z0, x1, y1, z1] in millimeters of the world (RAS+), index of the color, and caption of each.
            size: pixels of the volume's longest side.
        """
        boxes, panels = list(boxes), []
        at = self.index_at(np.mean(np.reshape(boxes[0][0], (2, 3)), axis=0)) if boxes else self.middle
        placed = [(*self._edges_of(box), color, caption) for box, color, caption in boxes]
        for plane in PLANES:
            gray, across = self._gray(plane, at, size), 3 - plane[0] - plane[1]
            shown = [
                (_on_screen(low, high, plane, self.values.shape, gray.shape), color, caption)
                for low, high, color, caption in placed
                if low[across] <= at[across] + 0.5 <= high[across]
            ]
            panels.append(_marked(draw_overlay(gray, boxes=shown), plane))
        return _beside(panels)

    def _edges_of(self, box: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and highest edges of a box of the world in upright voxels; voxel i fills i to i + 1."""
        corners = np.array(list(product(*np.reshape(box, (2, 3)).T)))
        edges = nibabel.affines.apply_affine(np.linalg.inv(self.upright_affine), corners) + 0.5
        return edges.min(0), edges.max(0)

    def slices(self, count: int = 24, size: int = 128) -> list[Image.Image]:
        """Axial slices from the head down, evenly spaced.

        Args:
            count: of them, at most.
            size: pixels of the longest side of the volume's axial plane.
        """
        height = self.values.shape[2]
        some = min(count, height)
        places = [(2 * number + 1) * height // (2 * some) for number in range(some)][::-1]
        longest = (np.array(self.values.shape) * self.sizes)[:2].max()
        grays = (self._gray(PLANES[0], (0, 0, place), size, longest) for place in places)
        return [Image.fromarray(gray.round().astype(np.uint8)) for gray in grays]

    def _gray(
        self, plane: tuple[int, int, str], at: Sequence[int], size: int, longest: float | None = None
    ) -> np.ndarray:
        """(H, W) of 0 to 255 of a plane, as many pixels as its millimeters take where the longest side takes size."""
        extent = np.array(self.values.shape) * self.sizes
        shape = [max(1, round(size * extent[axis] / (longest or extent.max()))) for axis in plane[:2]]
        low, high = self.window
        gray = (_cut(self.values, plane, at) - low) * (255 / max(high - low, 1e-6))
        return _resize(gray.clip(0, 255), shape, Image.Resampling.BILINEAR)


def _cut(values: np.ndarray, plane: tuple[int, int, str], at: Sequence[int]) -> np.ndarray:
    """The plane of upright values through a voxel, as it is looked at: what is highest or rightmost comes first."""
    rows, columns, _ = plane
    across = 3 - rows - columns
    part: np.ndarray = values[tuple(at[axis] if axis == across else slice(None) for axis in range(3))]
    return part.T[::-1, ::-1]


def _on_screen(
    low: np.ndarray, high: np.ndarray, plane: tuple[int, int, str], voxels: Sequence[int], pixels: Sequence[int]
) -> list[float]:
    """[x0, y0, x1, y1] in pixels of a plane as it is looked at, of edges in upright voxels."""
    (rows, columns, _), (height, width) = plane, pixels
    x0, x1 = (width * (1 - edge / voxels[columns]) for edge in (high[columns], low[columns]))
    y0, y1 = (height * (1 - edge / voxels[rows]) for edge in (high[rows], low[rows]))
    return [float(x0), float(y0), float(x1), float(y1)]


def _resize(plane: np.ndarray, shape: Sequence[int], how: Image.Resampling) -> np.ndarray:
    picture = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.array(picture.resize((shape[1], shape[0]), how))


def _marked(panel: Image.Image, plane: tuple[int, int, str]) -> Image.Image:
    ImageDraw.Draw(panel).text((2, panel.height // 2 - 6), plane[2], fill="white")
    return panel


def _beside(panels: Sequence[Image.Image]) -> Image.Image:
    """Pictures in a row on black, at the same middle."""
    height = max(panel.height for panel in panels)
    row = Image.new(panels[0].mode, (sum(panel.width + GAP for panel in panels) - GAP, height))
    left = 0
    for panel in panels:
        row.paste(panel, (left, (height - panel.height) // 2))
        left += panel.width + GAP
    return row
