# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Interpolates the positions of a vision transformer for images of another size."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

__all__ = ["fit_positions", "interpolate_positions"]

logger = logging.getLogger(__name__)

# how the names of such tensors end, here, in timm and in transformers
_NAMES = ("position_embeddings", "pos_embed", "position_embedding.weight")
# [CLS] and registers
_MOST_SPECIAL = 16
# how the name of the kernel of a ViT of MONAI ends, which has two more dimensions than the image
_KERNEL = "patch_embeddings.weight"


def interpolate_positions(
    positions: torch.Tensor, grid: Sequence[int], to: Sequence[int], num_special: int = 0
) -> torch.Tensor:
    """The positions of one grid of patches for another, bicubic and antialiased as timm and DeiT do it.

    Those of volumes are interpolated linearly, for torch has no more in 3D.

    Args:
        positions: (1, num_special + P, C).
        grid: rows and columns (and slices) of the P patches.
        to: the same of the other grid.
        num_special: tokens before the patches, such as [CLS], whose positions stay.

    Returns:
        (1, num_special + P', C), as many as there are patches in ``to``.

    Example::

        print(interpolate_positions(torch.rand(1, 197, 8), (14, 14), (24, 24), num_special=1).shape)
    """
    special, patches = positions[:, :num_special], positions[:, num_special:]
    image = patches.float().transpose(1, 2).unflatten(2, tuple(grid))
    if len(grid) == 3:
        image = F.interpolate(image, tuple(to), mode="trilinear")
    else:
        image = F.interpolate(image, tuple(to), mode="bicubic", antialias=True)
    return torch.cat((special, image.flatten(2).transpose(1, 2).to(positions.dtype)), dim=1)


def fit_positions(state: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict with the positions of squares of patches interpolated to those of a network; the log names them.

    Of a network whose patches are those of volumes, they are of cubes.

    Args:
        state: of the weights.
        wanted: of the network for another image size.

    Example::

        state = fit_positions({"pos_embed": torch.rand(1, 17, 8)}, {"pos_embed": torch.rand(1, 37, 8)})
        print(state["pos_embed"].shape)  # torch.Size([1, 37, 8])
    """
    fitted = dict(state)
    dims = next((value.ndim - 2 for key, value in wanted.items() if key.endswith(_KERNEL)), 2)
    for key in state:
        if not key.endswith(_NAMES) or key not in wanted:
            continue
        old, new = state[key], wanted[key]
        flat = old.ndim == 2  # of an nn.Embedding
        old, new = (old[None], new[None]) if flat else (old, new)
        special = None if old.shape[1] == new.shape[1] or old.shape[2] != new.shape[2] else _special(old, new, dims)
        if special is None:
            continue
        sides = [_side(tensor.shape[1] - special, dims) for tensor in (old, new)]
        moved = interpolate_positions(old, [sides[0]] * dims, [sides[1]] * dims, special)
        fitted[key] = moved[0] if flat else moved
        grids = [" x ".join([str(side)] * dims) for side in sides]
        logger.info(f"The positions of {grids[0]} patches are interpolated to {grids[1]}.")
    return fitted


def _side(count: int, dims: int) -> int:
    """The patches along an edge of the square or cube nearest to so many."""
    return round(float(count ** (1 / dims)))


def _special(old: torch.Tensor, new: torch.Tensor, dims: int) -> int | None:
    """How many tokens come before squares or cubes of patches in both; None where one is neither."""
    for special in range(_MOST_SPECIAL if dims == 2 else 2):  # a ViT of volumes is ours, and has [CLS] at most
        counts = [tensor.shape[1] - special for tensor in (old, new)]
        if min(counts) > 0 and all(_side(count, dims) ** dims == count for count in counts):
            return special
    return None
