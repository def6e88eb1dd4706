# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Segmentation on an image encoder: UNETR-like, U-Net-like and SETR-PUP decoders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.layers import Conv, Norm
from monai.networks.nets import UNETR, FlexibleUNet
from monai.networks.nets.flexible_unet import SegmentationHead, UNetDecoder
from monai.utils import ensure_tuple, look_up_option
from torch import nn

from monai_mgca.networks.adapters.adapted_encoder import AdaptedImageEncoder
from monai_mgca.networks.detection.pyramid import patch_size_of
from monai_mgca.networks.encoder_names import parse_encoder_name
from monai_mgca.networks.encoder_sizes import UNET_STAGES, create_image_encoder, size_advice
from monai_mgca.networks.image_encoder import ImageEncoder, ViTImageEncoder

__all__ = ["PUPSegmenter", "StageSegmenter", "create_segmenter"]


class PUPSegmenter(nn.Module):
    """A vision transformer with SETR's decoder of progressive upsampling.

    Four times a 3 x 3 convolution, norm, ReLU and upsampling by 2 lead from the patches to the pixels; where patches
    are not 16 pixels wide, the logits are interpolated to the image. Zheng et al.
    "Rethinking Semantic Segmentation from a Sequence-to-Sequence Perspective with Transformers", CVPR 2021,
    https://arxiv.org/abs/2012.15840; the channels are those of MGCA's authors. In 3D there are as many steps as patches
    need, for one too many has eight times the voxels of the image.

    Args:
        image_encoder: :class:`ViTImageEncoder`, or any encoder whose tokens form a square, or in 3D a box.
        num_classes: C, channels of the output.
        channels: of the four steps.
        spatial_dims: 2 or 3.

    Example::

        encoder = create_image_encoder("vit_compact", image_size=64)
        print(PUPSegmenter(encoder, num_classes=1, channels=(64, 32, 16, 8))(torch.rand(2, 1, 64, 64)).shape)
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        num_classes: int,
        channels: Sequence[int] = (512, 256, 128, 64),
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.patch = patch_size_of(image_encoder)
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        if spatial_dims == 3:
            channels = channels[: max(1, round(math.log2(self.patch)))]
        self.scale = 2 ** len(channels)
        convolution, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]
        steps: list[nn.Module] = []
        for in_channels, out_channels in zip([image_encoder.token_channels, *channels], channels, strict=False):
            steps += [
                convolution(in_channels, out_channels, 3, padding=1, bias=False),
                norm(out_channels),
                nn.ReLU(inplace=True),
                nn.Upsample(scale_factor=2, mode=self.mode, align_corners=False),
            ]
        self.decoder = nn.Sequential(*steps, convolution(channels[-1], num_classes, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W[, D]) images -> (B, C, H, W[, D]) logits."""
        tokens = self.image_encoder(image).tokens
        grid = [side // self.patch for side in image.shape[2:]]
        logits: torch.Tensor = self.decoder(tokens.transpose(1, 2).unflatten(2, grid))
        if self.patch != self.scale:
            logits = F.interpolate(logits, image.shape[2:], mode=self.mode, align_corners=False)
        return logits


class StageSegmenter(nn.Module):
    """MONAI's U-Net decoder on the stages of another library's network.

    Args:
        image_encoder: in 2D or 3D, with stages that halve the resolution one by one.
        num_classes: C, channels of the output.
        channels: of the decoder's blocks, coarsest first; at least as many as there are stages.

    Raises:
        ValueError: when a stage does not halve the resolution of the one before.

    Example::

        encoder = create_image_encoder("monai:SegResNet", image_size=64)
        print(StageSegmenter(encoder, num_classes=1)(torch.rand(2, 1, 64, 64)).shape)
    """

    def __init__(
        self, image_encoder: AdaptedImageEncoder, num_classes: int, channels: Sequence[int] = (128, 64, 32, 16, 16)
    ) -> None:
        super().__init__()
        strides = image_encoder.strides
        if any(2 * finer != coarser for finer, coarser in pairwise(strides)):
            raise ValueError(f"A U-Net needs stages that halve the resolution one by one, and these have {strides}.")
        self.image_encoder, spatial_dims = image_encoder, len(image_encoder.image_size)
        # the decoder's last block doubles the resolution without a stage: features of the image's own take no part
        self.first = 1 if strides[0] == 1 else 0
        used = image_encoder.stage_channels[self.first :]
        width = channels[: len(used)]
        self.decoder = UNetDecoder(
            spatial_dims=spatial_dims,
            encoder_channels=(1, *used),
            decoder_channels=width,
            act=("relu", {"inplace": True}),
            norm=("batch", {"eps": 1e-3, "momentum": 0.1}),
            dropout=0.0,
            bias=False,
            upsample="nontrainable",
            pre_conv="default",
            interp_mode="nearest",
            align_corners=None,
            is_pad=False,
        )
        scale = strides[self.first] // 2
        self.head = SegmentationHead(spatial_dims, width[-1], num_classes, kernel_size=3, scale_factor=scale)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W[, D]) images -> (B, C, H, W[, D]) logits."""
        stages = self.image_encoder.stages(image)[self.first :]
        logits: torch.Tensor = self.head(self.decoder(stages, len(stages) - 1))
        return logits


def create_segmenter(
    encoder: str,
    num_classes: int,
    image_size: Sequence[int] | int = 224,
    in_channels: int = 1,
    decoder: str = "default",
    spatial_dims: int = 2,
    patch_size: int = 16,
) -> FlexibleUNet | PUPSegmenter | StageSegmenter | UNETR:
    """A segmentation network on an encoder of the pretraining, by name.

    Args:
        encoder: a name of :func:`create_image_encoder`.
        num_classes: channels of the output, one a structure; structures may overlap.
        image_size: height and width (and depth) in pixels, a multiple of 32, of the patch with a ViT, which works at
            this size alone.
        in_channels: 1 for radiographs and CTs.
        decoder: "default" is MONAI's ``FlexibleUNet`` on a ResNet, its decoder in :class:`StageSegmenter` on another
            library's stages, and :class:`PUPSegmenter` on a ViT or any single scale; "unetr" is
            MONAI's ``UNETR``, on a ViT of twelve layers and patches of 16. It has no [CLS], so its features are not
            quite those of the pretraining.
        spatial_dims: 2 for images, 3 for volumes.
        patch_size: pixels of the edge of a ViT's patch; a ResNet has none.

    Raises:
        ValueError: for an unknown name, a size that is no such multiple, or a decoder that does not fit the encoder.

    Example::

        network = create_segmenter("resnet_compact", num_classes=1, image_size=64)
        print(network(torch.rand(2, 1, 64, 64)).shape)
    """
    decoder = look_up_option(decoder, ("default", "unetr"))
    if parse_encoder_name(encoder) is None:
        _check_size(encoder, image_size, 32 if encoder in UNET_STAGES else patch_size)
    if encoder in UNET_STAGES:
        _refuse_unetr(encoder, decoder)
        return FlexibleUNet(
            in_channels=in_channels,
            out_channels=num_classes,
            backbone=f"mgca_{encoder}",
            decoder_channels=_unet_channels(UNET_STAGES[encoder]),
            spatial_dims=spatial_dims,
            is_pad=False,
        )
    # one's own encoder of images need not know of dimensions
    dims: dict[str, Any] = {} if spatial_dims == 2 else {"spatial_dims": spatial_dims}
    made = create_image_encoder(encoder, image_size, patch_size, in_channels=in_channels, **dims)
    if decoder == "unetr" and isinstance(made, ViTImageEncoder):
        return _unetr(made, num_classes, in_channels)
    _refuse_unetr(encoder, decoder)
    if isinstance(made, AdaptedImageEncoder) and made.stage_channels:
        _check_size(encoder, image_size, made.strides[-1])
        return StageSegmenter(made, num_classes, _unet_channels(made.stage_channels))
    # as many channels as the authors' for ViT-B, and in proportion for narrower ones
    width = min(512, max(64, made.token_channels))
    return PUPSegmenter(made, num_classes, (width, width // 2, width // 4, width // 8), spatial_dims)


def _unet_channels(stages: Sequence[int]) -> tuple[int, ...]:
    """Of a U-Net's decoder, by the channels of the encoder's stages."""
    return (256, 128, 64, 32, 16) if stages[-1] > 256 else (128, 64, 32, 16, 16)


def _check_size(encoder: str, image_size: Sequence[int] | int, step: int) -> None:
    for side in ensure_tuple(image_size):
        if side % step:
            raise ValueError(
                f"image_size must be a multiple of {step} to segment with {encoder}, got {image_size}: "
                f"{size_advice(side, step)}."
            )


def _refuse_unetr(encoder: str, decoder: str) -> None:
    if decoder == "unetr":
        raise ValueError(
            f"decoder 'unetr' needs a vision transformer, vit_base, vit_small or vit_tiny, got the encoder '{encoder}'."
        )


def _unetr(vit: ViTImageEncoder, num_classes: int, in_channels: int) -> UNETR:
    blocks = vit.backbone.blocks
    if len(blocks) != 12:
        raise ValueError(f"decoder 'unetr' needs a vision transformer of 12 layers, got one of {len(blocks)}.")
    if patch_size_of(vit) != 16:
        raise ValueError(
            f"decoder 'unetr' needs patches of 16, which MONAI's UNETR has, got {patch_size_of(vit)}: leave the "
            "decoder out."
        )
    network: Any = UNETR(
        in_channels=in_channels,
        out_channels=num_classes,
        img_size=vit.image_size,
        hidden_size=vit.out_channels,
        mlp_dim=blocks[0].mlp.linear1.out_features,
        num_heads=blocks[0].attn.num_heads,
        spatial_dims=len(vit.image_size),
        qkv_bias=True,
    )
    # the same blocks, without parameters that nothing calls (DDP) and with the pretraining's norms and fused attention
    network.vit.blocks, network.vit.norm = blocks, vit.backbone.norm
    return network
