# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Any image network of timm as an image encoder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from monai_mgca.networks.adapters.adapted_encoder import AdaptedImageEncoder, NetworkOutput, last_of_each_size
from monai_mgca.networks.encoder_names import format_encoder_name
from monai_mgca.utils.extras import require_extra

__all__ = ["TimmImageEncoder", "timm_name"]

# arguments that are given here whatever a folder says
_GIVEN = {"in_chans", "num_classes", "img_size"}


class TimmImageEncoder(AdaptedImageEncoder):
    """A network of timm, made by timm: vision transformers with a [CLS], registers or rotary positions, CNNs, Swin.

    Args:
        network: timm's name, as "vit_small_patch14_reg4_dinov2" or "convnext_tiny", or a folder in the format of
            timm's hub (``config.json``), whose weights are not read.
        image_size: pixels of the images; a network of a fixed size is built for it.
        in_channels: channels of the images.
        checkpointing: recompute the blocks in the backward pass, where timm has that for the network.
        arguments: further ones of timm's network, such as ``depth`` or ``depths``.

    Raises:
        ValueError: when timm does not know the network, or it has no features with places.

    Example::

        encoder = TimmImageEncoder("convnext_atto", image_size=64)
        print(encoder(torch.rand(2, 1, 64, 64)).tokens.shape)  # torch.Size([2, 16, 160])
    """

    def __init__(
        self,
        network: str,
        image_size: Sequence[int] | int = 224,
        in_channels: int = 1,
        checkpointing: bool = False,
        **arguments: Any,
    ) -> None:
        backbone: Any = create_timm_network(network, image_size, in_channels, **arguments)
        pool = getattr(backbone, "attn_pool", None)
        has_token = getattr(backbone, "cls_token", None) is not None
        patch = getattr(getattr(backbone, "patch_embed", None), "patch_size", None)
        one_scale = len({info["reduction"] for info in getattr(backbone, "feature_info", [])}) == 1
        super().__init__(
            backbone,
            image_size,
            in_channels,
            patch_size=(patch if isinstance(patch, int) else patch[0]) if one_scale and patch else None,
            has_query=one_scale and (pool is not None or has_token),
        )
        self.network, self.arguments = network, arguments
        if checkpointing:
            backbone.set_grad_checkpointing()

    def read(self, image: torch.Tensor) -> NetworkOutput:
        """See :meth:`AdaptedImageEncoder.read`."""
        net: Any = self.backbone
        if self.patch_size is not None:
            features = net.forward_features(image)
            return NetworkOutput(net.forward_head(features, pre_logits=True), features[:, net.num_prefix_tokens :], ())
        features, stages = net.forward_intermediates(image, output_fmt="NCHW")
        return NetworkOutput(net.forward_head(features, pre_logits=True), None, last_of_each_size(stages))

    def middle(self) -> nn.Module:
        """See :meth:`AdaptedImageEncoder.middle`."""
        net: Any = self.backbone
        if self.patch_size is not None:
            return net.blocks[len(net.blocks) // 2]
        name = net.feature_info[-1]["module"]
        part: nn.Module = net.get_submodule(name)
        return part


def create_timm_network(network: str, image_size: Sequence[int] | int, in_channels: int, **arguments: Any) -> nn.Module:
    """A network of timm without its classifier.

    Args:
        network: see :class:`TimmImageEncoder`; so are the others.
        image_size: given to those of a fixed size.
        in_channels: channels of the images.
        arguments: of the network, as of :func:`timm.create_model`.

    Raises:
        ValueError: when timm does not know it, or it cannot be built like that.
    """
    require_extra("timm", "An image encoder of timm", "timm")
    import timm

    name, own = timm_name(network)
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('.')[0][:8]}*")[:6]
        raise ValueError(
            f"timm has no network '{name}'{': it has ' + ', '.join(near) if near else ''}. Its names are listed by "
            "timm.list_models()."
        )
    config = timm.get_pretrained_cfg(name)
    sizes = {"img_size": image_size} if config is not None and config.fixed_input_size else {}
    try:
        made: Any = timm.create_model(name, in_chans=in_channels, num_classes=0, **{**sizes, **own, **arguments})
    except (TypeError, AssertionError) as error:
        raise ValueError(f"timm cannot build '{name}' with images of {image_size} pixels: {error}") from error
    if not hasattr(made, "forward_intermediates"):
        raise ValueError(
            f"timm's '{name}' gives no features of stages or patches: take a network that has forward_intermediates, "
            "such as convnext_tiny, swin_tiny_patch4_window7_224 or a vision transformer."
        )
    network_: nn.Module = made
    return network_


def timm_name(network: str) -> tuple[str, dict[str, Any]]:
    """The architecture and its arguments, of a name or of a folder in the format of timm's hub.

    Args:
        network: either.

    Raises:
        ValueError: when a folder has no ``config.json`` of timm.
    """
    folder = Path(network)
    if not folder.is_dir():
        return network.removeprefix("timm/"), {}
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        own = {key: value for key, value in (config.get("model_args") or {}).items() if key not in _GIVEN}
        return config["architecture"], own
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"The folder '{folder}' has no config.json with timm's \"architecture\": give one that timm saved "
            "(timm.models.save_for_hf), or hf:FOLDER for a network of transformers."
        ) from None


def rebuilding_name(network: str, arguments: dict[str, Any]) -> str:
    """The name that builds the same network without its folder."""
    name, own = timm_name(network)
    return format_encoder_name("timm", name, {**own, **arguments})
