# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Segmentation on an image encoder: UNETR-like, U-Net-like and SETR-PUP decoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.nets import UNETR, FlexibleUNet
from monai.utils import look_up_option
from torch import nn

from monai_mgca.networks.encoder_sizes import UNET_STAGES, create_image_encoder, size_advice
from monai_mgca.networks.image_encoder import ViTImageEncoder

__all__ = ["PUPSegmenter", "create_segmenter"]


class PUPSegmenter(nn.Module):
    """A vision transformer with SETR's decoder of progressive upsampling.

    Four times a 3 x 3 convolution, norm, ReLU and upsampling by 2 lead from the patches to the pixels. Zheng et al.
    "Rethinking Semantic Segmentation from a Sequence-to-Sequence Perspective with Transformers", CVPR 2021,
    https://arxiv.org/abs/2012.15840; the channels are those of MGCA's authors.

    Args:
        image_encoder: :class:`ViTImageEncoder` of patches of 16 x 16 pixels.
        num_classes: C, channels of the output.
        channels: of the four steps.

    Example::

        encoder = create_image_encoder("vit_compact", image_size=64)
        print(PUPSegmenter(encoder, num_classes=1, channels=(64, 32, 16, 8))(torch.rand(2, 1, 64, 64)).shape)
    """

    def __init__(
        self, image_encoder: ViTImageEncoder, num_classes: int, channels: Sequence[int] = (512, 256, 128, 64)
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.grid = [size // 16 for size in image_encoder.image_size]
        steps: list[nn.Module] = []
        for in_channels, out_channels in zip([image_encoder.out_channels, *channels], channels, strict=False):
            steps += [
                nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            ]
        self.decoder = nn.Sequential(*steps, nn.Conv2d(channels[-1], num_classes, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) images -> (B, C, H, W) logits."""
        tokens = self.image_encoder(image).tokens
        logits: torch.Tensor = self.decoder(tokens.transpose(1, 2).unflatten(2, self.grid))
        return logits


def create_segmenter(
    encoder: str, num_classes: int, image_size: int = 224, in_channels: int = 1, decoder: str = "default"
) -> FlexibleUNet | PUPSegmenter | UNETR:
    """A segmentation network on an encoder of the pretraining, by name.

    Args:
        encoder: a name of :func:`create_image_encoder`.
        num_classes: channels of the output, one a structure; structures may overlap.
        image_size: height and width in pixels, a multiple of 32, of 16 with a ViT; a ViT works at this size alone.
        in_channels: 1 for radiographs.
        decoder: "default" is MONAI's ``FlexibleUNet`` on a ResNet and :class:`PUPSegmenter` on a ViT; "unetr" is
            MONAI's ``UNETR``, on a ViT of twelve layers. It has no [CLS], so its features are not quite those of the
            pretraining.

    Raises:
        ValueError: for an unknown name, a size that is no such multiple, or a decoder that does not fit the encoder.

    Example::

        network = create_segmenter("resnet_compact", num_classes=1, image_size=64)
        print(network(torch.rand(2, 1, 64, 64)).shape)
    """
    decoder = look_up_option(decoder, ("default", "unetr"))
    step = 32 if encoder in UNET_STAGES else 16
    if image_size % step:
        raise ValueError(
            f"image_size must be a multiple of {step} to segment with {encoder}, got {image_size}: "
            f"{size_advice(encoder, image_size, step)}."
        )
    if encoder in UNET_STAGES:
        if decoder == "unetr":
            raise ValueError(f"decoder 'unetr' needs a vision transformer, got the encoder '{encoder}'.")
        wide = UNET_STAGES[encoder][-1] > 256
        return FlexibleUNet(
            in_channels=in_channels,
            out_channels=num_classes,
            backbone=f"mgca_{encoder}",
            decoder_channels=(256, 128, 64, 32, 16) if wide else (128, 64, 32, 16, 16),
            spatial_dims=2,
            is_pad=False,
        )
    vit = create_image_encoder(encoder, image_size, in_channels=in_channels)
    assert isinstance(vit, ViTImageEncoder)  # all others are among the residual ones
    if decoder == "unetr":
        return _unetr(vit, num_classes, in_channels)
    # as many channels as the authors' for ViT-B, and in proportion for narrower ones
    width = min(512, max(64, vit.out_channels))
    return PUPSegmenter(vit, num_classes, (width, width // 2, width // 4, width // 8))


def _unetr(vit: ViTImageEncoder, num_classes: int, in_channels: int) -> UNETR:
    blocks = vit.backbone.blocks
    if len(blocks) != 12:
        raise ValueError(f"decoder 'unetr' needs a vision transformer of 12 layers, got one of {len(blocks)}.")
    network: Any = UNETR(
        in_channels=in_channels,
        out_channels=num_classes,
        img_size=vit.image_size,
        hidden_size=vit.out_channels,
        mlp_dim=blocks[0].mlp.linear1.out_features,
        num_heads=blocks[0].attn.num_heads,
        spatial_dims=2,
        qkv_bias=True,
    )
    # the same blocks, without parameters that nothing calls (DDP) and with the pretraining's norms and fused attention
    network.vit.blocks, network.vit.norm = blocks, vit.backbone.norm
    return network
