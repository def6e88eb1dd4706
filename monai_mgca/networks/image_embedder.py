# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The network of ``model.pt``: an image encoder with its projection."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from monai_mgca.networks.image_encoder import ImageFeatures
from monai_mgca.networks.windows import encode_windows

__all__ = ["ImageEmbedder"]


class ImageEmbedder(nn.Module):
    """An image encoder with its projection: images to unit vectors. This is what ``model.pt`` holds.

    Args:
        image_encoder: gives :class:`ImageFeatures`.
        image_head: projection of the pooled features.
        window_size: pixels of the edges of windows, where images are larger than the encoder: it sees them one by one,
            and the image is the mean of all (:func:`encode_windows`). None: the encoder sees the whole image.

    Example::

        from monai_mgca.networks import ImageEmbedder, ProjectionHead, create_image_encoder
        encoder = create_image_encoder("resnet_compact")
        embedder = ImageEmbedder(encoder, ProjectionHead(encoder.out_channels)).eval()
        print(embedder(torch.rand(2, 1, 64, 64)).shape)
    """

    def __init__(
        self, image_encoder: nn.Module, image_head: nn.Module, window_size: Sequence[int] | int | None = None
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.image_head = image_head
        self.window_size = window_size

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W[, D]) images -> (B, D) unit vectors."""
        features = self.image_encoder(image) if self.window_size is None else self._windows(image)
        embedding: torch.Tensor = self.image_head(features.pooled)
        return embedding

    @torch.jit.unused
    def _windows(self, image: torch.Tensor) -> ImageFeatures:
        assert self.window_size is not None
        return encode_windows(self.image_encoder, image, self.window_size)
