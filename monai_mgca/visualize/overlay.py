# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Draws masks, boxes and heat maps over an image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

__all__ = ["draw_heat", "draw_overlay"]

# distinguished by most eyes (Okabe and Ito 2008)
_COLORS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))


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
        outline = _COLORS[index % len(_COLORS)]
        # a box holds the pixels from its lower edge to the one before its upper edge
        right, lower = max(x0, x1 - 1), max(y0, y1 - 1)
        draw.rectangle((x0, y0, right, lower), outline=outline, width=width)
        draw.text((x0 + width + 1, y0 + width), caption, fill=outline)
    return picture


def draw_heat(image: Any, heat: Any, region: Any = None, limits: tuple[float, float] | None = None) -> Image.Image:
    """A radiograph with a heat map, the warmer the more orange, and perhaps the outline of a region in blue.

    Args:
        image: (H, W), 0..255.
        heat: (H, W); its own lowest value is clear, its highest the strongest.
        region: (H, W) of 0 and 1.
        limits: what is clear and what is the strongest, in place of the map's own, where it is a slice of a larger one.

    Raises:
        ValueError: when the heat map or the region has another size than the image.

    Example::

        draw_heat(torch.zeros(64, 48), torch.rand(64, 48)).save("heat.png")
    """
    gray, warm = (torch.as_tensor(values).cpu().float().numpy() for values in (image, heat))
    if warm.shape != gray.shape:
        raise ValueError(f"The heat map is {warm.shape}, the image {gray.shape}: bring the map to the image's size.")
    low, high = (warm.min(), warm.max()) if limits is None else limits
    share = ((warm - low) / max(high - low, np.finfo(np.float32).eps)).clip(0, 1)
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
