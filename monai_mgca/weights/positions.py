# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Interpolates the positions of a vision transformer for images of another size."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

__all__ = ["fit_positions", "interpolate_positions"]

logger = logging.getLogger(__name__)

# how the names of such tensors end, here, in timm and in transformers
_NAMES = ("position_embeddings", "pos_embed", "position_embedding.weight")
# [CLS] and registers
_MOST_SPECIAL = 16


def interpolate_positions(
    positions: torch.Tensor, grid: Sequence[int], to: Sequence[int], num_special: int = 0
) -> torch.Tensor:
    """The positions of one grid of patches for another, bicubic and antialiased as timm and DeiT do it.

    Args:
        positions: (1, num_special + P, C).
        grid: rows and columns of the P patches.
        to: rows and columns of the other grid.
        num_special: tokens before the patches, such as [CLS], whose positions stay.

    Returns:
        (1, num_special + P', C), as many as there are patches in ``to``.

    Example::

        print(interpolate_positions(torch.rand(1, 197, 8), (14, 14), (24, 24), num_special=1).shape)
    """
    special, patches = positions[:, :num_special], positions[:, num_special:]
    image = patches.float().transpose(1, 2).unflatten(2, (grid[0], grid[1]))
    image = F.interpolate(image, (to[0], to[1]), mode="bicubic", antialias=True)
    return torch.cat((special, image.flatten(2).transpose(1, 2).to(positions.dtype)), dim=1)


def fit_positions(state: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict with the positions of squares of patches interpolated to those of a network; the log names them.

    Args:
        state: of the weights.
        wanted: of the network for another image size.

    Example::

        state = fit_positions({"pos_embed": torch.rand(1, 17, 8)}, {"pos_embed": torch.rand(1, 37, 8)})
        print(state["pos_embed"].shape)  # torch.Size([1, 37, 8])
    """
    fitted = dict(state)
    for key in state:
        if not key.endswith(_NAMES) or key not in wanted:
            continue
        old, new = state[key], wanted[key]
        flat = old.ndim == 2  # of an nn.Embedding
        old, new = (old[None], new[None]) if flat else (old, new)
        special = None if old.shape[1] == new.shape[1] or old.shape[2] != new.shape[2] else _special(old, new)
        if special is None:
            continue
        sides = [math.isqrt(tensor.shape[1] - special) for tensor in (old, new)]
        moved = interpolate_positions(old, [sides[0]] * 2, [sides[1]] * 2, special)
        fitted[key] = moved[0] if flat else moved
        logger.info(f"The positions of {sides[0]} x {sides[0]} patches are interpolated to {sides[1]} x {sides[1]}.")
    return fitted


def _special(old: torch.Tensor, new: torch.Tensor) -> int | None:
    """How many tokens come before squares of patches in both; None where neither is a square."""
    for special in range(_MOST_SPECIAL):
        counts = [tensor.shape[1] - special for tensor in (old, new)]
        if min(counts) > 0 and all(math.isqrt(count) ** 2 == count for count in counts):
            return special
    return None
