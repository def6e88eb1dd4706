# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Networks of MONAI, in 2D and 3D, as image encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks import nets
from monai.utils import look_up_option
from torch import nn

from monai_mgca.networks.adapters.adapted_encoder import AdaptedImageEncoder, NetworkOutput, last_of_each_size

__all__ = ["MONAIImageEncoder"]


class MONAIImageEncoder(AdaptedImageEncoder):
    """The encoder of a network of MONAI: DenseNets, EfficientNets, SwinUNETR's and SegResNet's.

    Args:
        network: the class: "DenseNet121" and the other DenseNets, "EfficientNetBN", "SwinUNETR" or "SegResNet".
        image_size: pixels of the images.
        in_channels: channels of the images.
        spatial_dims: 2 or 3.
        checkpointing: SwinUNETR's own; the others have none.
        arguments: further ones of the class, such as ``feature_size``.

    Raises:
        ValueError: for another class, or with checkpointing where there is none.

    Example::

        encoder = MONAIImageEncoder("SegResNet", image_size=32, spatial_dims=3, init_filters=8)
        print(encoder(torch.rand(2, 1, 32, 32, 32)).pooled.shape)  # torch.Size([2, 64])
    """

    def __init__(
        self,
        network: str,
        image_size: Sequence[int] | int = 224,
        in_channels: int = 1,
        spatial_dims: int = 2,
        checkpointing: bool = False,
        **arguments: Any,
    ) -> None:
        create, self._read, self._middle = look_up_option(network, _NETWORKS)
        if checkpointing and network != "SwinUNETR":
            raise ValueError(f"MONAI's {network} recomputes nothing: leave checkpointing out.")
        if checkpointing:
            arguments = {"use_checkpoint": True, **arguments}
        try:
            backbone = create(network, spatial_dims, in_channels, arguments)
        except TypeError as error:
            raise ValueError(f"MONAI cannot build {network} with {arguments}: {error}") from error
        super().__init__(backbone, image_size, in_channels, spatial_dims)

    def read(self, image: torch.Tensor) -> NetworkOutput:
        """See :meth:`AdaptedImageEncoder.read`."""
        stages, last = self._read(self.backbone, image)
        return NetworkOutput(last.flatten(2).mean(2), None, stages)

    def middle(self) -> nn.Module:
        """See :meth:`AdaptedImageEncoder.middle`."""
        part: nn.Module = self.backbone.get_submodule(self._middle)
        return part


def _densenet(name: str, spatial_dims: int, in_channels: int, arguments: dict[str, Any]) -> nn.Module:
    made: Any = getattr(nets, name)(spatial_dims=spatial_dims, in_channels=in_channels, out_channels=1, **arguments)
    del made.class_layers
    return made


def _read_densenet(net: Any, image: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    stages, x = [], image
    for name, layer in net.features.named_children():
        x = layer(x)
        if name == "relu0" or name.startswith("denseblock"):
            stages.append(x)
    stages[-1] = F.relu(x)  # behind the last norm, as MONAI's classifier takes it
    return stages, stages[-1]


def _efficientnet(name: str, spatial_dims: int, in_channels: int, arguments: dict[str, Any]) -> nn.Module:
    made: Any = nets.EfficientNetBN(
        **{"model_name": "efficientnet-b0", "pretrained": False, **arguments},
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        num_classes=1,
    )
    del made._fc
    return made


def _read_efficientnet(net: Any, image: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    x = net._swish(net._bn0(net._conv_stem(net._conv_stem_padding(image))))
    stages = [x]
    for block in net._blocks:
        x = block(x)
        stages.append(x)
    x = net._swish(net._bn1(net._conv_head(net._conv_head_padding(x))))
    return [*last_of_each_size(stages)[:-1], x], x


def _swin(name: str, spatial_dims: int, in_channels: int, arguments: dict[str, Any]) -> nn.Module:
    sizes = {"feature_size": 24, **arguments}
    made: nn.Module = nets.SwinUNETR(
        spatial_dims=spatial_dims, in_channels=in_channels, out_channels=1, **sizes
    ).swinViT
    return made


def _read_swin(net: Any, image: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    stages = net(image, normalize=True)
    return stages, stages[-1]


def _segresnet(name: str, spatial_dims: int, in_channels: int, arguments: dict[str, Any]) -> nn.Module:
    made: Any = nets.SegResNet(spatial_dims=spatial_dims, in_channels=in_channels, out_channels=1, **arguments)
    del made.up_layers, made.up_samples, made.conv_final
    return made


def _read_segresnet(net: Any, image: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    last, stages = net.encode(image)
    return stages, last


Create = Callable[[str, int, int, dict[str, Any]], nn.Module]
Read = Callable[[Any, torch.Tensor], tuple[list[torch.Tensor], torch.Tensor]]
# how each is built, how it is read, and its last stage
_NETWORKS: dict[str, tuple[Create, Read, str]] = {
    **{
        name: (_densenet, _read_densenet, "features.denseblock4")
        for name in ("DenseNet121", "DenseNet169", "DenseNet201", "DenseNet264")
    },
    "EfficientNetBN": (_efficientnet, _read_efficientnet, "_conv_head"),
    "SwinUNETR": (_swin, _read_swin, "layers4.0"),
    "SegResNet": (_segresnet, _read_segresnet, "down_layers.3"),
}
