# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The files of a heat map: the picture, the map itself, and a mask of its highest part."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from monai_mgca.io.volumes.volume_writer import write_volume
from monai_mgca.utils.files import replacing
from monai_mgca.visualize.image_view import RadiographView
from monai_mgca.visualize.volume_view import VolumeView

__all__ = ["describe_peak", "map_name", "save_picture", "write_map"]


def map_name(path: str, text: str) -> str:
    """A file name from an image's and a phrase.

    Args:
        path: of the image; of a series its folder.
        text: the phrase.

    Example::

        print(map_name("studies/1.nii.gz", "Left effusion"))  # 1_left_effusion
    """
    # a folder's name may be a UID, full of points
    name = Path(path).name if os.path.isdir(path) else Path(path).name.split(".")[0]
    return f"{name}_{re.sub(r'[^a-z0-9]+', '_', text.lower()).strip('_')[:60]}"


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG, whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")


def write_map(
    view: RadiographView | VolumeView, heat: torch.Tensor, base: Path, path: str, threshold: float | None = None
) -> list[str]:
    """Write the files of a map: of radiographs PNG, of volumes the picture as PNG and all else as NIfTI.

    Args:
        view: of the image.
        heat: (H, W[, D]) of the image as it is stored.
        base: of the files' paths.
        path: of the image.
        threshold: the part of the highest value from which on the mask is 1; no mask without it.

    Returns:
        The files' paths. Of the map 8 bits are kept, from 0 to its highest value; a NIfTI file's slope restores it.
    """
    top = heat.max().clamp_min(torch.finfo(heat.dtype).tiny)
    levels = (255 * heat / top).round().byte().numpy()
    mask = None if threshold is None else ((heat >= threshold * heat.max()) & (heat > 0)).numpy()
    ending = ".nii.gz" if isinstance(view, VolumeView) else ".png"
    save_picture(view.draw_heat(heat), base.with_name(f"{base.name}.png"))
    written = [f"{base}.png", f"{base}_map{ending}", *([] if mask is None else [f"{base}_mask{ending}"])]
    if isinstance(view, VolumeView):
        write_volume(levels, view.affine, written[1], path, slope=float(top) / 255 if heat.any() else 1.0)
        if mask is not None:
            write_volume(mask.astype(np.uint8), view.affine, written[2], path)
        return written
    save_picture(Image.fromarray(levels), Path(written[1]))
    if mask is not None:
        save_picture(Image.fromarray(255 * mask.astype(np.uint8)), Path(written[2]))
    return written


def describe_peak(view: RadiographView | VolumeView, heat: torch.Tensor) -> str:
    """Where a map is highest, in words.

    Args:
        view: of the image.
        heat: (H, W[, D]) of the image as it is stored.
    """
    size = " x ".join(map(str, heat.shape))
    if isinstance(view, VolumeView):
        place = [int(at) for at in np.unravel_index(int(heat.argmax()), heat.shape)]
        world = ", ".join(f"{at:.1f}" for at in view.affine[:3, :3] @ place + view.affine[:3, 3])
        return f"the voxel {place} of {size}, at [{world}] mm (RAS)"
    y, x = divmod(int(heat.argmax()), heat.shape[1])
    return f"x = {x}, y = {y} of {heat.shape[1]} x {heat.shape[0]} pixels"
