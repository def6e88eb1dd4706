# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The image encoders by name and size, and as backbones of MONAI's ``FlexibleUNet``, which finds them by name too."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from logging import getLogger
from typing import Any

import torch
from monai.networks.blocks import BaseEncoder
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE
from monai.utils import ensure_tuple, look_up_option
from torch import nn

from monai_mgca.networks.adapters.library_encoder import create_library_encoder
from monai_mgca.networks.encoder_names import parse_encoder_name
from monai_mgca.networks.image_encoder import ImageEncoder, ResNetImageEncoder, ViTImageEncoder

__all__ = [
    "UNET_STAGES",
    "UNetEncoder",
    "create_image_encoder",
    "fitting_size",
    "register_image_encoder",
    "size_advice",
    "wanted_size",
]

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
# those of users: register_image_encoder
_REGISTERED: dict[str, Callable[..., ImageEncoder]] = {}
# channels of the five stages of those that FlexibleUNet can take: the ResNets
UNET_STAGES = {
    "resnet50": (64, 256, 512, 1024, 2048),
    "resnet18": (64, 64, 128, 256, 512),
    "resnet_compact": (32, 32, 64, 128, 256),
    "resnet_tiny": (32, 32, 64, 128, 256),
}
# what rebuilds a ResNet of the official code from the settings of its weights
OFFICIAL = "_official"
_SIZES |= {f"{name}{OFFICIAL}": (_SIZES[name][0], {**_SIZES[name][1], "official_resize": True}) for name in UNET_STAGES}
UNET_STAGES |= {f"{name}{OFFICIAL}": stages for name, stages in UNET_STAGES.items()}


def create_image_encoder(
    name: str,
    image_size: Sequence[int] | int = 224,
    patch_size: Sequence[int] | int = 16,
    cls_position: bool = False,
    official_resize: bool = False,
    **kwargs: Any,
) -> ImageEncoder:
    """An image encoder by the name of its size, as configs choose it.

    Args:
        name: "vit_base" (ViT-B/16), "vit_small", "vit_tiny", "vit_compact", "resnet50", "resnet18",
            "resnet_compact" (ResNet-18 of half the width) or "resnet_tiny" (ResNet-10 of half the width, whose tokens
            see 99 pixels in place of 211: its heat maps are sharper); "resnet50_official" and so on are those with
            ``official_resize``. Of another library: "timm:NETWORK", "hf:FOLDER", "monai:CLASS"
            (:func:`parse_encoder_name`), or a name of :func:`register_image_encoder`.
        image_size: pixels; a ViT works at this size alone, to which the positions of its weights are interpolated.
        patch_size: pixels of the edge of a ViT's patch; a ResNet has none.
        cls_position: see :class:`ViTImageEncoder`; a ResNet has neither.
        official_resize: see :class:`ResNetImageEncoder`; of a ResNet alone.
        kwargs: arguments of the encoder, such as ``in_channels``, ``spatial_dims`` and ``checkpointing``.

    Raises:
        ValueError: for an unknown name, with the nearest known one, a network that another library cannot build, or
            ``official_resize`` of another encoder than a ResNet of ours.

    Example::

        encoder = create_image_encoder("resnet_compact", in_channels=1)
    """
    made: ImageEncoder
    if official_resize:
        name = official_name(name)
    other = parse_encoder_name(name)
    if other is not None:
        return create_library_encoder(other, image_size, **kwargs)
    if name not in _SIZES:
        return _own(name)(image_size=image_size, **kwargs)
    encoder, sizes = look_up_option(name, _SIZES)
    if encoder is ViTImageEncoder:
        sizes = {"image_size": image_size, "patch_size": patch_size, "cls_position": cls_position, **sizes}
    made = encoder(**{**sizes, **kwargs})
    return made


def official_name(name: str) -> str:
    """The name of a ResNet that resizes as the official code does, which settings of its weights carry.

    Args:
        name: of the same without.

    Raises:
        ValueError: when it is no ResNet of ours.

    Example::

        print(official_name("resnet50"))  # resnet50_official
    """
    found = name if name.endswith(OFFICIAL) else f"{name}{OFFICIAL}"
    if found not in UNET_STAGES:
        raise ValueError(f"official_resize is of a ResNet of ours, such as resnet50, got '{name}'.")
    return found


def _own(name: str) -> Callable[..., ImageEncoder]:
    """What a user's own encoder is made by; modules that the environment names are imported to find it."""
    if name not in _REGISTERED:
        for module in filter(None, os.environ.get("MGCA_IMPORT", "").split(",")):
            importlib.import_module(module.strip())
    if name not in _REGISTERED:
        try:
            look_up_option(name, _SIZES)
        except ValueError as error:
            raise ValueError(
                f"{error} An encoder of your own is found by the name it was registered by (register_image_encoder) "
                "when a config imports its module, or when MGCA_IMPORT names it."
            ) from None
    return _REGISTERED[name]


def register_image_encoder(name: str, create: Callable[..., ImageEncoder]) -> None:
    """Let configs and commands find an image encoder of one's own by a name.

    A config imports the module that calls this: ``"imports": ["$import my_encoders"]``; for the commands, which build
    networks from the settings of their weights, name it in the environment variable ``MGCA_IMPORT``.

    Args:
        name: no built-in name of :func:`create_image_encoder`; the same one again replaces what it stood for.
        create: its class or a function, called with ``image_size``, ``in_channels`` and what the config gives.

    Raises:
        ValueError: when the name is a built-in one.

    Example::

        class Tiny(ImageEncoder):
            def __init__(self, image_size, in_channels=1, checkpointing=False):
                super().__init__(out_channels=8, token_channels=8)
                self.net = torch.nn.Conv2d(in_channels, 8, kernel_size=16, stride=16)

            def forward(self, image):
                tokens = self.net(image).flatten(2).transpose(1, 2)
                return ImageFeatures(tokens.mean(1), tokens, None)

        register_image_encoder("tiny", Tiny)
        print(create_image_encoder("tiny", image_size=64)(torch.rand(2, 1, 64, 64)).tokens.shape)
    """
    if name in _SIZES or parse_encoder_name(name) is not None:
        raise ValueError(f"'{name}' names one of the built-in image encoders: give yours another name.")
    _REGISTERED[name] = create


def fitting_size(encoder: str, image_size: Sequence[int] | int, multiple: int, at_most: int | None = None) -> Any:
    """The size of the images of a finetuning: that of the pretraining, or the nearest that the network can take.

    Args:
        encoder: a name of :func:`create_image_encoder`; a ViT of ours keeps the size of its pretraining.
        image_size: pixels of the pretraining, one number or one for each axis.
        multiple: what the size of the network's images must be a multiple of.
        at_most: of patches, such a multiple; they need not be as large as what was pretrained on.

    Returns:
        The same, as the one number or a list.

    Example::

        print(fitting_size("resnet_compact", 112, 32))  # 128
    """
    takes_any = parse_encoder_name(encoder) is not None or _SIZES.get(encoder, (None,))[0] is ResNetImageEncoder
    sides = ensure_tuple(image_size)
    largest = max(sides) if at_most is None else at_most
    if not takes_any or not any(side % multiple or side > largest for side in sides):
        return image_size
    fitting = [max(multiple, (min(side, largest) + multiple // 2) // multiple * multiple) for side in sides]
    nearest = fitting if isinstance(image_size, Sequence) else fitting[0]
    logger.info(
        f"The encoder was pretrained on images of {image_size} pixels, and here they have {nearest}, the nearest "
        f"multiple of {multiple}{'' if at_most is None else f' up to {at_most}'}."
    )
    return nearest


def wanted_size(encoder: str, image_size: Sequence[int] | int, wanted: int) -> Any:
    """The size of the windows of a network: a wanted one, but of a ViT of ours that of its pretraining.

    Args:
        encoder: a name of :func:`create_image_encoder`.
        image_size: of the pretraining, one number or one for each axis.
        wanted: of the windows.

    Example::

        print(wanted_size("resnet_tiny", 48, 64), wanted_size("vit_tiny", 48, 64))  # 64 48
    """
    return wanted if _takes_any(encoder) else image_size


def _takes_any(encoder: str) -> bool:
    return parse_encoder_name(encoder) is not None or _SIZES.get(encoder, (None,))[0] is ResNetImageEncoder


def size_advice(image_size: int, multiple: int) -> str:
    """How to mend an image size that is no such multiple."""
    lower = image_size // multiple * multiple
    sizes = " or ".join(str(size) for size in (lower, lower + multiple) if size)
    return f"set image_size to {sizes}"


class UNetEncoder(ResNetImageEncoder, BaseEncoder):
    """Our residual encoders as backbones of MONAI's ``FlexibleUNet``, registered there as "mgca_resnet50" and so on.

    MONAI's own "resnet50" takes the same weights; its narrower ones differ from those of the pretraining.
    """

    def __init__(self, name: str, spatial_dims: int, in_channels: int, pretrained: bool = False) -> None:
        encoder: Any = create_image_encoder(name, in_channels=in_channels, spatial_dims=spatial_dims)
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
