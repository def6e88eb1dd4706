# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Encodes images that are larger than their encoder, window by window."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.utils import ensure_tuple_rep
from torch import nn

from monai_mgca.networks.image_encoder import ImageFeatures
from monai_mgca.networks.micro_batch import encode_in_micro_batches

__all__ = ["WindowEncoder", "encode_windows"]


def encode_windows(
    encoder: nn.Module, image: torch.Tensor, window_size: Sequence[int] | int, micro_batch_size: int = 0
) -> ImageFeatures:
    """The features of an image that an encoder sees in windows, side by side: all their tokens, and their mean.

    The tokens stand in the order of the whole image, as if the encoder had seen it at once, and each window has the
    same share of the attention. So one report is aligned with all windows of its volume.

    Args:
        encoder: gives :class:`ImageFeatures` of one window, with as many tokens along each axis; a ViT is one of
            ``window_size``.
        image: (B, in_channels, H, W[, D]).
        window_size: pixels of the edges of a window, one number for a square or cube.
        micro_batch_size: windows that the encoder takes at a time, see :func:`encode_in_micro_batches`; 0: all at once.

    Returns:
        pooled (B, C), tokens (B, P, C') and attention (B, P) or None.

    Raises:
        ValueError: when the image is no whole number of windows, or a window's tokens are no square or cube.

    Example::

        from monai_mgca.networks import create_image_encoder
        encoder = create_image_encoder("resnet_tiny", spatial_dims=3)
        print(encode_windows(encoder, torch.rand(2, 1, 64, 64, 64), 32).tokens.shape)  # (2, 64, 128)
    """
    batch, channels, *sizes = image.shape
    window = ensure_tuple_rep(window_size, len(sizes))
    if any(size % edge for size, edge in zip(sizes, window, strict=True)):
        raise ValueError(
            f"Images of {tuple(sizes)} are no whole number of windows of {tuple(window)}: choose image_size as a "
            "multiple of window_size."
        )
    grid = [size // edge for size, edge in zip(sizes, window, strict=True)]
    count = math.prod(grid)
    cut = image.reshape(batch, channels, *(n for pair in zip(grid, window, strict=True) for n in pair))
    axes = range(len(grid))
    windows = cut.permute(0, *(2 + 2 * axis for axis in axes), 1, *(3 + 2 * axis for axis in axes))
    windows = windows.reshape(batch * count, channels, *window)
    features = ImageFeatures(*encode_in_micro_batches(encoder, micro_batch_size, windows))
    pooled = features.pooled.unflatten(0, (batch, count)).mean(1)
    tokens = _in_order(features.tokens, batch, grid)
    attention = features.attention
    if attention is not None:
        attention = _in_order(attention[..., None], batch, grid)[..., 0] / count
    return ImageFeatures(pooled, tokens, attention)


def _in_order(tokens: torch.Tensor, batch: int, grid: Sequence[int]) -> torch.Tensor:
    """(B * windows, P, C) tokens of windows as (B, windows * P, C) in the order of the whole image."""
    number, dims = tokens.shape[1], len(grid)
    side = round(number ** (1 / dims))
    if side**dims != number:
        raise ValueError(f"A window has {number} tokens, which are no {'square' if dims == 2 else 'cube'}.")
    apart = tokens.reshape(batch, *grid, *[side] * dims, tokens.shape[-1])
    axes = range(dims)
    return apart.permute(0, *(n for axis in axes for n in (1 + axis, 1 + dims + axis)), -1).flatten(1, 2 * dims)


class WindowEncoder(nn.Module):
    """:func:`encode_windows` as a network, for what takes an encoder of whole images.

    Args:
        encoder: of one window.
        window_size: pixels of the edges of a window.
    """

    def __init__(self, encoder: nn.Module, window_size: Sequence[int] | int) -> None:
        super().__init__()
        self.encoder, self.window_size = encoder, window_size

    def forward(self, image: torch.Tensor) -> ImageFeatures:
        """(B, in_channels, H, W[, D]) images of any whole number of windows."""
        return encode_windows(self.encoder, image, self.window_size)
