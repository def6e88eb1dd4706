# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The image encoders by name and size, and as backbones of MONAI's ``FlexibleUNet``, which finds them by name too."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from typing import Any

import torch
from monai.networks.blocks import BaseEncoder
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE
from monai.utils import look_up_option
from torch import nn

from monai_mgca.networks.image_encoder import ResNetImageEncoder, ViTImageEncoder

__all__ = ["UNET_STAGES", "UNetEncoder", "create_image_encoder", "fitting_size", "size_advice"]

logger = getLogger(__name__)

_SIZES: dict[str, tuple[type, dict[str, Any]]] = {
    "vit_base": (ViTImageEncoder, {}),
    "vit_small": (ViTImageEncoder, {"hidden_size": 384, "mlp_dim": 1536, "num_heads": 6}),
    "vit_tiny": (ViTImageEncoder, {"hidden_size": 192, "mlp_dim": 768, "num_heads": 3}),
    "vit_compact": (ViTImageEncoder, {"hidden_size": 128, "mlp_dim": 512, "num_layers": 4, "num_heads": 4}),
    "resnet50": (ResNetImageEncoder, {}),
    "resnet18": (ResNetImageEncoder, {"block": "basic", "layers": (2, 2, 2, 2)}),
    "resnet_compact": (ResNetImageEncoder, {"block": "basic", "layers": (2, 2, 2, 2), "width": 32}),
    "resnet_tiny": (ResNetImageEncoder, {"block": "basic", "layers": (1, 1, 1, 1), "width": 32}),
}
# channels of the five stages of those that FlexibleUNet can take
UNET_STAGES = {
    "resnet50": (64, 256, 512, 1024, 2048),
    "resnet18": (64, 64, 128, 256, 512),
    "resnet_compact": (32, 32, 64, 128, 256),
    "resnet_tiny": (32, 32, 64, 128, 256),
}


def create_image_encoder(
    name: str,
    image_size: Sequence[int] | int = 224,
    patch_size: Sequence[int] | int = 16,
    cls_position: bool = False,
    **kwargs: Any,
) -> ViTImageEncoder | ResNetImageEncoder:
    """An image encoder by the name of its size, as configs choose it.

    Args:
        name: "vit_base" (ViT-B/16), "vit_small", "vit_tiny", "vit_compact", "resnet50", "resnet18",
            "resnet_compact" (ResNet-18 of half the width) or "resnet_tiny" (ResNet-10 of half the width, whose tokens
            see 99 pixels in place of 211: its heat maps are sharper).
        image_size: pixels; a ViT works at this size alone.
        patch_size: pixels of the edge of a ViT's patch; a ResNet has none.
        cls_position: see :class:`ViTImageEncoder`; a ResNet has neither.
        kwargs: arguments of the encoder, such as ``in_channels``, ``spatial_dims`` and ``checkpointing``.

    Raises:
        ValueError: for an unknown name, with the nearest known one.

    Example::

        encoder = create_image_encoder("resnet_compact", in_channels=1)
    """
    encoder, sizes = look_up_option(name, _SIZES)
    if encoder is ViTImageEncoder:
        sizes = {"image_size": image_size, "patch_size": patch_size, "cls_position": cls_position, **sizes}
    made: ViTImageEncoder | ResNetImageEncoder = encoder(**{**sizes, **kwargs})
    return made


def fitting_size(encoder: str, image_size: int, multiple: int) -> int:
    """The size of the images of a finetuning: that of the pretraining, or the nearest that the network can take.

    Args:
        encoder: a name of :func:`create_image_encoder`; a ViT works at the size of its pretraining alone.
        image_size: pixels of the pretraining.
        multiple: what the size of the network's images must be a multiple of.

    Example::

        print(fitting_size("resnet_compact", 112, 32))  # 128
    """
    if _SIZES.get(encoder, (None,))[0] is not ResNetImageEncoder or image_size % multiple == 0:
        return image_size
    nearest = max(multiple, (image_size + multiple // 2) // multiple * multiple)
    logger.info(
        f"The encoder was pretrained on images of {image_size} pixels, and here they have {nearest}, the nearest "
        f"multiple of {multiple}: a ResNet takes any."
    )
    return nearest


def size_advice(encoder: str, image_size: int, multiple: int) -> str:
    """How to mend an image size that is no such multiple."""
    lower = image_size // multiple * multiple
    sizes = " or ".join(str(size) for size in (lower, lower + multiple) if size)
    vit = "; a ViT must have been pretrained at that size" if _SIZES.get(encoder, (None,))[0] is ViTImageEncoder else ""
    return f"set image_size to {sizes}{vit}"


class UNetEncoder(ResNetImageEncoder, BaseEncoder):
    """Our residual encoders as backbones of MONAI's ``FlexibleUNet``, registered there as "mgca_resnet50" and so on.

    MONAI's own "resnet50" takes the same weights; its narrower ones differ from those of the pretraining.
    """

    def __init__(self, name: str, spatial_dims: int, in_channels: int, pretrained: bool = False) -> None:
        encoder = create_image_encoder(name, in_channels=in_channels, spatial_dims=spatial_dims)
        nn.Module.__init__(self)
        self.backbone, self.checkpointing = encoder.backbone, False

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:  # type: ignore[override]
        """(B, in_channels, H, W) -> the features of five stages."""
        return self.stages(image)

    @classmethod
    def get_encoder_parameters(cls) -> list[dict]:
        """The arguments of each backbone; ``FlexibleUNet`` fills in its own."""
        return [{"name": name, "spatial_dims": 2, "in_channels": 1, "pretrained": False} for name in UNET_STAGES]

    @classmethod
    def num_channels_per_output(cls) -> list[tuple[int, ...]]:
        """The channels of the stages of each backbone."""
        return list(UNET_STAGES.values())

    @classmethod
    def num_outputs(cls) -> list[int]:
        """The number of stages of each backbone."""
        return [5] * len(UNET_STAGES)

    @classmethod
    def get_encoder_names(cls) -> list[str]:
        """The names in MONAI's register."""
        return [f"mgca_{name}" for name in UNET_STAGES]


# here, where every encoder is made: the name must be known to whoever has one
FLEXUNET_BACKBONE.register_class(UNetEncoder)
