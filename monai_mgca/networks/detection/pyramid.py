# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Feature pyramids: of the single scale of a ViT, of the stages of any other network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks import BackboneWithFPN
from monai.networks.blocks.feature_pyramid_network import FeaturePyramidNetwork
from monai.networks.layers.factories import Conv, Pool
from torch import nn

from monai_mgca.networks.adapters.adapted_encoder import AdaptedImageEncoder
from monai_mgca.networks.image_encoder import ImageEncoder, ResNetImageEncoder, ViTImageEncoder

__all__ = ["SimpleFeaturePyramid", "StagePyramid", "create_pyramid", "patch_size_of"]


class SimpleFeaturePyramid(nn.Module):
    """Feature maps of several resolutions from the last tokens of a vision transformer (ViTDet, Li et al. 2022).

    Every level is made from the same map: by transposed convolutions where it is finer than the patches, by pooling
    where it is coarser, then one convolution across channels and one across neighbors. The norms look at one image at a
    time, so that a batch of one is as good as any. Of patches that are no power of two, such as 14 pixels, the nearest
    level is interpolated to the stride.

    Args:
        encoder: the vision transformer, with patches of even sides, or any encoder whose tokens form a square.
        strides: pixels of the image between neighbors of each level; powers of two, ascending.
        out_channels: channels of every level.
        spatial_dims: 2 or 3, of the encoder.

    Raises:
        ValueError: when a stride is no power of two.

    Example::

        encoder = create_image_encoder("vit_compact", image_size=64)
        pyramid = SimpleFeaturePyramid(encoder, strides=(8, 16, 32), out_channels=64)
        print([tuple(level.shape) for level in pyramid(torch.rand(1, 1, 64, 64)).values()])
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        strides: Sequence[int] = (8, 16, 32),
        out_channels: int = 256,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        self.image_encoder = encoder
        self.out_channels = out_channels
        self.patch = patch_size_of(encoder)
        self.levels = nn.ModuleList(
            _level(encoder.token_channels, out_channels, self.patch, stride, spatial_dims) for stride in strides
        )

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        Args:
            image: (B, in_channels, H, W[, D]) of the encoder's image size.

        Returns:
            (B, out_channels, H / stride, W / stride[, D / stride]) for each stride, finest first.
        """
        tokens = self.image_encoder(image).tokens
        features = tokens.transpose(1, 2).unflatten(2, [size // self.patch for size in image.shape[2:]])
        return {str(index): level(features) for index, level in enumerate(self.levels)}


class StagePyramid(nn.Module):
    """MONAI's feature pyramid network on the stages of another library's network.

    Args:
        encoder: with stages.
        strides: pixels of the image between neighbors of each level, ascending; some of the encoder's.
        out_channels: channels of every level.
        spatial_dims: 2 or 3, of the encoder.

    Raises:
        ValueError: when the encoder has no such strides.

    Example::

        encoder = create_image_encoder("monai:SegResNet", image_size=64)
        pyramid = StagePyramid(encoder, strides=(4, 8), out_channels=32)
        print([tuple(level.shape) for level in pyramid(torch.rand(1, 1, 64, 64)).values()])
    """

    def __init__(
        self, encoder: AdaptedImageEncoder, strides: Sequence[int], out_channels: int, spatial_dims: int = 2
    ) -> None:
        super().__init__()
        if not set(strides) <= set(encoder.strides):
            known = ", ".join(map(str, encoder.strides))
            raise ValueError(f"This encoder has the strides {known}, got {tuple(strides)}: choose strides among them.")
        self.image_encoder, self.out_channels = encoder, out_channels
        self.levels = [encoder.strides.index(stride) for stride in strides]
        channels = [encoder.stage_channels[level] for level in self.levels]
        self.fpn = FeaturePyramidNetwork(spatial_dims, channels, out_channels)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, in_channels, H, W[, D]) -> (B, out_channels, H / stride, ...) for each stride, finest first."""
        stages = self.image_encoder.stages(image)
        chosen = {str(index): stages[level] for index, level in enumerate(self.levels)}
        levels: dict[str, torch.Tensor] = self.fpn(chosen)
        return levels


def patch_size_of(encoder: ImageEncoder) -> int:
    """Pixels between neighboring tokens of an encoder of one scale."""
    if isinstance(encoder, ViTImageEncoder):
        size: int = encoder.backbone.patch_embedding.patch_embeddings.kernel_size[0]
        return size
    return int(getattr(encoder, "patch_size", None) or 16)


class _ToStride(nn.Module):
    """Interpolates a map to the stride that doubling and halving the patches' resolution did not reach."""

    def __init__(self, old: int, new: int) -> None:
        super().__init__()
        self.old, self.new = old, new

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        size = [side * self.old // self.new for side in features.shape[2:]]
        mode = "bilinear" if features.ndim == 4 else "trilinear"
        return F.interpolate(features, size, mode=mode, align_corners=False)


def _level(in_channels: int, out_channels: int, patch: int, stride: int, spatial_dims: int) -> nn.Sequential:
    if stride < 1 or stride & (stride - 1):
        raise ValueError(f"Strides are powers of two, got {stride} for patches of {patch} pixels.")
    steps = round(math.log2(patch / stride))  # how often the resolution is doubled, or halved
    conv, upward, pool = Conv[Conv.CONV, spatial_dims], Conv[Conv.CONVTRANS, spatial_dims], Pool[Pool.MAX, spatial_dims]
    layers: list[nn.Module] = []
    for step in range(steps):
        layers += [nn.GroupNorm(1, in_channels), nn.GELU()] if step else []
        layers.append(upward(in_channels, in_channels // 2, kernel_size=2, stride=2))
        in_channels //= 2
    if steps < 0:
        layers.append(pool(kernel_size=2**-steps))
    reached, wanted = patch * 2 ** max(-steps, 0), stride * 2 ** max(steps, 0)
    if reached != wanted:
        layers.append(_ToStride(reached, wanted))
    layers += [conv(in_channels, out_channels, kernel_size=1, bias=False), nn.GroupNorm(1, out_channels)]
    layers += [conv(out_channels, out_channels, 3, padding=1, bias=False), nn.GroupNorm(1, out_channels)]
    return nn.Sequential(*layers)


def create_pyramid(
    encoder: ImageEncoder, strides: Sequence[int] = (8, 16, 32), out_channels: int = 256, spatial_dims: int = 2
) -> nn.Module:
    """The feature extractor of a detector: MONAI's FPN on stages, :class:`SimpleFeaturePyramid` on a single scale.

    MONAI's ``resnet_fpn_feature_extractor`` makes the same network, but always with 256 channels and one coarser level,
    which at 224 pixels is no longer a whole number of cells.

    Args:
        encoder: the image encoder, which becomes part of the pyramid.
        strides: pixels of the image between neighbors of each level, ascending; of a network with stages some of
            theirs, of a ResNet 4, 8, 16, 32.
        out_channels: channels of every level.
        spatial_dims: 2 or 3, of the encoder.

    Raises:
        ValueError: when the encoder cannot give one of the strides.

    Example::

        pyramid = create_pyramid(create_image_encoder("resnet_compact"), strides=(8, 16, 32), out_channels=64)
        print([tuple(level.shape) for level in pyramid(torch.rand(1, 1, 64, 64)).values()])
    """
    if isinstance(encoder, AdaptedImageEncoder) and encoder.stage_channels:
        return StagePyramid(encoder, strides, out_channels, spatial_dims)
    if not isinstance(encoder, ResNetImageEncoder):
        return SimpleFeaturePyramid(encoder, strides, out_channels, spatial_dims)
    stages = {4: "layer1", 8: "layer2", 16: "layer3", 32: "layer4"}
    if not set(strides) <= stages.keys():
        raise ValueError(f"A ResNet has the strides {', '.join(map(str, stages))}, got {tuple(strides)}.")
    pyramid = BackboneWithFPN(
        encoder.backbone,
        return_layers={stages[stride]: str(index) for index, stride in enumerate(strides)},
        in_channels_list=[encoder.out_channels * stride // 32 for stride in strides],
        out_channels=out_channels,
        spatial_dims=spatial_dims,
    )
    pyramid.fpn.extra_blocks = None  # a level by pooling, which the class always adds
    return pyramid
