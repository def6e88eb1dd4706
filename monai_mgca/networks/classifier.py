# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A linear classifier on an image encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from monai_mgca.networks.encoder_sizes import create_image_encoder
from monai_mgca.networks.image_encoder import ImageEncoder

__all__ = ["RadiographClassifier", "create_classifier"]


class RadiographClassifier(nn.Module):
    """One linear layer on the pooled features of an image encoder: linear probing, or finetuning, as by the authors.

    The features are those before the projection of the pretraining: [CLS] of a ViT, the mean of a ResNet's last stage.

    Args:
        image_encoder: :class:`ViTImageEncoder` or :class:`ResNetImageEncoder`.
        num_classes: C, the labels.

    Example::

        encoder = create_image_encoder("resnet_compact")
        print(RadiographClassifier(encoder, num_classes=3)(torch.rand(2, 1, 64, 64)).shape)
    """

    def __init__(self, image_encoder: ImageEncoder, num_classes: int) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.head = nn.Linear(image_encoder.out_channels, num_classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W[, D]) images -> (B, C) logits."""
        logits: torch.Tensor = self.head(self.image_encoder(image).pooled)
        return logits


def create_classifier(
    encoder: str,
    num_classes: int,
    image_size: Sequence[int] | int = 224,
    in_channels: int = 1,
    spatial_dims: int = 2,
    patch_size: int = 16,
) -> RadiographClassifier:
    """A classifier on an encoder of the pretraining, by name.

    Args:
        encoder: a name of :func:`create_image_encoder`.
        num_classes: C, the labels.
        image_size: height and width (and depth) in pixels; a ViT works at this size alone.
        in_channels: 1 for radiographs and CTs.
        spatial_dims: 2 for images, 3 for volumes.
        patch_size: pixels of the edge of a ViT's patch; a ResNet has none.

    Raises:
        ValueError: for an unknown name, or fewer than one class.

    Example::

        print(create_classifier("vit_compact", num_classes=5, image_size=64)(torch.rand(2, 1, 64, 64)).shape)
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}: name the labels in classes.")
    # one's own encoder of images need not know of dimensions
    dims: dict[str, Any] = {} if spatial_dims == 2 else {"spatial_dims": spatial_dims}
    made = create_image_encoder(encoder, image_size, patch_size, in_channels=in_channels, **dims)
    return RadiographClassifier(made, num_classes)
