# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes radiographs with the predicted masks or boxes drawn over them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils import CommonKeys, ImageMetaKey
from PIL import Image, ImageDraw

from monai_mgca.io import stem_of
from monai_mgca.transforms import LoadRadiograph
from monai_mgca.utils.files import replacing

__all__ = ["OverlaySaver", "draw_heat", "draw_overlay"]

# told apart by most eyes (Okabe and Ito 2008)
_COLORS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))


class OverlaySaver:
    """Writes each radiograph as a PNG at its own size, with the masks or boxes that were predicted drawn over it.

    Attach it to an evaluator whose output is a list of dictionaries at the stored image's size, with "image", whose
    meta data name the file. Files take the image's path below ``data_dir``, with "_overlay" behind the name.

    Args:
        output_dir: folder of the overlays.
        data_dir: folder of the images.
        classes: names of the classes of masks or boxes.
        mask_key: key of masks (C, H, W) of 0 and 1; None draws none.
        box_key: key of boxes (N, 4) [x0, y0, x1, y1], beside "labels" and "labels_scores"; None draws none.
        min_score: boxes with a smaller score are not drawn.

    Example::

        OverlaySaver("overlays", "radiographs", ["lung"], mask_key="pred").attach(evaluator)
        OverlaySaver("overlays", "radiographs", ["lung", "heart"], box_key="boxes").attach(evaluator)
    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        data_dir: str | os.PathLike,
        classes: Sequence[str],
        mask_key: str | None = None,
        box_key: str | None = None,
        min_score: float = 0.3,
    ) -> None:
        self.output_dir, self.data_dir = Path(output_dir), data_dir
        self.classes, self.mask_key, self.box_key, self.min_score = list(classes), mask_key, box_key, min_score
        self.load = LoadRadiograph()

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: MONAI's evaluator.
        """
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._save)

    def _save(self, engine: Engine) -> None:
        for item in engine.state.output:
            file = Path(item[CommonKeys.IMAGE].meta[ImageMetaKey.FILENAME_OR_OBJ])
            masks = () if self.mask_key is None else item[self.mask_key]
            picture = draw_overlay(self.load(file)[0], masks, self._boxes(item))
            path = self.output_dir / Path(os.path.relpath(file, self.data_dir)).parent
            path.mkdir(parents=True, exist_ok=True)
            with replacing(path / f"{stem_of(file.name)}_overlay.png") as temporary:
                picture.save(temporary, format="PNG")

    def _boxes(self, item: Mapping[str, Any]) -> Iterable[tuple[Sequence[float], int, str]]:
        if self.box_key is None:
            return
        columns = (item[key].tolist() for key in (self.box_key, "labels", "labels_scores"))
        for box, label, score in zip(*columns, strict=True):
            if score >= self.min_score:
                yield box, label, f"{self.classes[label]} {score:.2f}"


def draw_overlay(image: Any, masks: Any = (), boxes: Iterable[tuple[Sequence[float], int, str]] = ()) -> Image.Image:
    """A radiograph with masks, filled lightly and with a contour, and with boxes and their captions.

    Args:
        image: (H, W), 0..255.
        masks: (C, H, W) of 0 and 1, a color each.
        boxes: [x0, y0, x1, y1], index of the color, and caption of each.

    Raises:
        ValueError: when a mask has another size than the image.

    Example::

        draw_overlay(torch.zeros(64, 48), torch.ones(1, 64, 48), [([8, 8, 30, 40], 0, "nodule 0.90")]).save("o.png")
    """
    gray = torch.as_tensor(image).cpu().numpy().clip(0, 255)
    pixels = np.repeat(gray[..., None], 3, axis=2)
    for index, mask in enumerate(masks):
        inside = _inside(mask, gray)
        color = np.array(_COLORS[index % len(_COLORS)], dtype=pixels.dtype)
        pixels[inside] = 0.75 * pixels[inside] + 0.25 * color
        pixels[inside & ~_core(inside)] = color
    picture = Image.fromarray(pixels.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    width = max(1, max(picture.size) // 400)
    for (x0, y0, x1, y1), index, caption in boxes:
        color = _COLORS[index % len(_COLORS)]
        # a box holds the pixels from its lower edge to the one before its upper edge
        right, lower = max(x0, x1 - 1), max(y0, y1 - 1)
        draw.rectangle((x0, y0, right, lower), outline=color, width=width)
        draw.text((x0 + width + 1, y0 + width), caption, fill=color)
    return picture


def draw_heat(image: Any, heat: Any, region: Any = None) -> Image.Image:
    """A radiograph with a heat map, the warmer the more orange, and perhaps the outline of a region in blue.

    Args:
        image: (H, W), 0..255.
        heat: (H, W); its own lowest value is clear, its highest the strongest.
        region: (H, W) of 0 and 1.

    Raises:
        ValueError: when the heat map or the region has another size than the image.

    Example::

        draw_heat(torch.zeros(64, 48), torch.rand(64, 48)).save("heat.png")
    """
    gray, warm = (torch.as_tensor(values).cpu().float().numpy() for values in (image, heat))
    if warm.shape != gray.shape:
        raise ValueError(f"The heat map is {warm.shape}, the image {gray.shape}: bring the map to the image's size.")
    share = (warm - warm.min()) / max(warm.max() - warm.min(), np.finfo(np.float32).eps)
    # low values stay clear, so that one sees the image
    opacity = 0.65 * share[..., None] ** 1.5
    pixels = (1 - opacity) * np.repeat(gray.clip(0, 255)[..., None], 3, axis=2) + opacity * np.array(_COLORS[0])
    if region is not None:
        inside = _inside(region, gray)
        pixels[inside & ~_core(inside)] = _COLORS[1]
    return Image.fromarray(pixels.astype(np.uint8))


def _inside(mask: Any, gray: np.ndarray) -> np.ndarray:
    inside: np.ndarray = torch.as_tensor(mask).cpu().numpy() > 0.5
    if inside.shape != gray.shape:
        raise ValueError(f"The mask is {inside.shape}, the image {gray.shape}: bring the mask to the image's size.")
    return inside


def _core(inside: np.ndarray) -> np.ndarray:
    """A region without its outermost pixels."""
    padded = np.pad(inside, 1)
    core: np.ndarray = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return core
