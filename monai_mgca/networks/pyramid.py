# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A feature pyramid from the single scale of a ViT."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import BackboneWithFPN
from torch import nn

from monai_mgca.networks.image_encoder import ResNetImageEncoder, ViTImageEncoder

__all__ = ["SimpleFeaturePyramid", "create_pyramid"]


class SimpleFeaturePyramid(nn.Module):
    """Feature maps of several resolutions from the last tokens of a vision transformer (ViTDet, Li et al. 2022).

    Every level is made from the same map: by transposed convolutions where it is finer than the patches, by pooling
    where it is coarser, then one convolution across channels and one across neighbors. The norms look at one image at a
    time, so that a batch of one is as good as any.

    Args:
        encoder: the vision transformer, in 2D and with square patches.
        strides: pixels of the image between neighbors of each level; powers of two, ascending.
        out_channels: channels of every level.

    Raises:
        ValueError: when a stride is not the patch size times or divided by a power of two.

    Example::

        encoder = create_image_encoder("vit_compact", image_size=64)
        pyramid = SimpleFeaturePyramid(encoder, strides=(8, 16, 32), out_channels=64)
        print([tuple(level.shape) for level in pyramid(torch.rand(1, 1, 64, 64)).values()])
    """

    def __init__(self, encoder: ViTImageEncoder, strides: Sequence[int] = (8, 16, 32), out_channels: int = 256) -> None:
        super().__init__()
        self.image_encoder = encoder
        self.out_channels = out_channels
        patch = encoder.backbone.patch_embedding.patch_embeddings.kernel_size[0]
        self.grid = tuple(size // patch for size in encoder.image_size)
        self.levels = nn.ModuleList(
            _level(encoder.token_channels, out_channels, _steps(patch, stride)) for stride in strides
        )

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        Args:
            image: (B, in_channels, H, W) of the encoder's image size.

        Returns:
            (B, out_channels, H / stride, W / stride) for each stride, finest first.
        """
        tokens = self.image_encoder(image).tokens
        features = tokens.transpose(1, 2).unflatten(2, self.grid)
        return {str(index): level(features) for index, level in enumerate(self.levels)}


def _steps(patch: int, stride: int) -> int:
    """How often to double (positive) or halve (negative) the resolution of the patches."""
    finer, coarser = patch // stride, stride // patch
    steps = max(finer, 1).bit_length() - max(coarser, 1).bit_length()
    if stride * 2**steps != patch:
        raise ValueError(f"Stride {stride} is not the patch size {patch} times or divided by a power of two.")
    return steps


def _level(in_channels: int, out_channels: int, steps: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for step in range(steps):
        layers += [nn.GroupNorm(1, in_channels), nn.GELU()] if step else []
        layers.append(nn.ConvTranspose2d(in_channels, in_channels // 2, kernel_size=2, stride=2))
        in_channels //= 2
    if steps < 0:
        layers.append(nn.MaxPool2d(kernel_size=2**-steps))
    layers += [nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False), nn.GroupNorm(1, out_channels)]
    layers += [nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False), nn.GroupNorm(1, out_channels)]
    return nn.Sequential(*layers)


def create_pyramid(
    encoder: ViTImageEncoder | ResNetImageEncoder, strides: Sequence[int] = (8, 16, 32), out_channels: int = 256
) -> nn.Module:
    """The feature extractor of a detector: MONAI's FPN on a ResNet, :class:`SimpleFeaturePyramid` on a ViT.

    MONAI's ``resnet_fpn_feature_extractor`` makes the same network, but always with 256 channels and one coarser level,
    which at 224 pixels is no longer a whole number of cells.

    Args:
        encoder: the image encoder, in 2D, which becomes part of the pyramid.
        strides: pixels of the image between neighbors of each level, ascending; of a ResNet some of 4, 8, 16, 32.
        out_channels: channels of every level.

    Raises:
        ValueError: when the encoder cannot give one of the strides.

    Example::

        pyramid = create_pyramid(create_image_encoder("resnet_compact"), strides=(8, 16, 32), out_channels=64)
        print([tuple(level.shape) for level in pyramid(torch.rand(1, 1, 64, 64)).values()])
    """
    if isinstance(encoder, ViTImageEncoder):
        return SimpleFeaturePyramid(encoder, strides, out_channels)
    stages = {4: "layer1", 8: "layer2", 16: "layer3", 32: "layer4"}
    if not set(strides) <= stages.keys():
        raise ValueError(f"A ResNet has the strides {', '.join(map(str, stages))}, got {tuple(strides)}.")
    pyramid = BackboneWithFPN(
        encoder.backbone,
        return_layers={stages[stride]: str(index) for index, stride in enumerate(strides)},
        in_channels_list=[encoder.out_channels * stride // 32 for stride in strides],
        out_channels=out_channels,
        spatial_dims=2,
    )
    pyramid.fpn.extra_blocks = None  # a level by pooling, which the class always adds
    return pyramid
