# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A vision model of transformers as an image encoder."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from monai_mgca.networks.adapters.adapted_encoder import AdaptedImageEncoder, NetworkOutput, last_of_each_size
from monai_mgca.networks.encoder_names import format_encoder_name
from monai_mgca.utils.console import name_some

__all__ = ["TransformersImageEncoder"]

# what a config of text and images keeps of its images
_VISION = "vision_config"
# of a config: what says nothing of how the model is built
_OF_NO_SIZE = {
    *("model_type", "architectures", "transformers_version", "dtype", "_name_or_path", "num_channels"),
    *("stage_names", "out_features", "out_indices", "id2label", "label2id"),
}


class TransformersImageEncoder(AdaptedImageEncoder):
    """A vision model of transformers: ViT, Dinov2 (as RAD-DINO), DINOv3, CLIP's or SigLIP's half, Swin, ConvNeXt.

    Positions of another image size are interpolated by the model itself, as transformers does it.

    Args:
        network: a folder or hub name with a ``config.json``, whose weights are not read here, or a model type of
            transformers, as "dinov2".
        image_size: pixels of the images.
        in_channels: channels of the images.
        checkpointing: recompute the layers in the backward pass.
        config: settings of the model's config; the size that its positions are of is "image_size" in it.
        arguments: more of them.

    Raises:
        ValueError: when there is no config, or it is not of a vision model with features of places.

    Example::

        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14}
        encoder = TransformersImageEncoder("dinov2", image_size=56, **sizes)
        print(encoder(torch.rand(2, 1, 56, 56)).tokens.shape)  # torch.Size([2, 16, 32])
    """

    def __init__(
        self,
        network: str,
        image_size: Sequence[int] | int = 224,
        in_channels: int = 1,
        checkpointing: bool = False,
        config: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> None:
        read = read_vision_config(network, {**(config or {}), **arguments})
        backbone: Any = create_vision_model(read, in_channels)
        if checkpointing:
            backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        accepted = inspect.signature(backbone.forward).parameters
        self._options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in accepted else {}
        patch = getattr(read, "patch_size", None)
        staged = bool(getattr(read, "depths", None))
        has_query = not staged and _has_query(backbone)
        super().__init__(backbone, image_size, in_channels, patch_size=None if staged else patch, has_query=has_query)
        self.network = network

    def read(self, image: torch.Tensor) -> NetworkOutput:
        """See :meth:`AdaptedImageEncoder.read`."""
        staged = self.patch_size is None
        output = self.backbone(image, output_hidden_states=staged, **self._options)
        last: Any = output.last_hidden_state
        pooled: Any = getattr(output, "pooler_output", None)
        if not staged:
            patch = self.patch_size or 1
            count = (image.shape[2] // patch) * (image.shape[3] // patch)
            return NetworkOutput(last[:, 0] if pooled is None else pooled, last[:, -count:], ())
        hidden = getattr(output, "reshaped_hidden_states", None) or output.hidden_states
        return NetworkOutput(pooled.flatten(1), None, last_of_each_size([stage for stage in hidden if stage.ndim == 4]))

    def middle(self) -> nn.Module:
        """See :meth:`AdaptedImageEncoder.middle`."""
        layers = max(
            (part for part in self.backbone.modules() if isinstance(part, nn.ModuleList)),
            key=lambda part: sum(value.numel() for value in part.parameters()),
        )
        return layers[-1] if self.patch_size is None else layers[len(layers) // 2]


def read_vision_config(network: str, arguments: Mapping[str, Any]) -> Any:
    """The config of a vision model, from a folder, a hub name or a model type.

    Args:
        network: see :class:`TransformersImageEncoder`.
        arguments: settings that are not as there.

    Raises:
        ValueError: when there is none.
    """
    if network in transformers.CONFIG_MAPPING and not Path(network).is_dir():
        config = transformers.AutoConfig.for_model(network, **arguments)
    else:
        try:
            config = transformers.AutoConfig.from_pretrained(network, trust_remote_code=False, **arguments)
        except (OSError, ValueError) as error:
            raise ValueError(_unreadable(network)) from error
    config = getattr(config, _VISION, config)
    if not hasattr(config, "num_channels"):
        raise ValueError(
            f"'{network}' is a {config.model_type}, which reads no images: an image encoder of transformers is a "
            "vision model, such as dinov2, vit, swin, convnext, or the image half of clip or siglip."
        )
    return config


def create_vision_model(config: Any, in_channels: int) -> nn.Module:
    """The model of a config with random weights.

    Args:
        config: of :func:`read_vision_config`.
        in_channels: channels of the images.

    Raises:
        ValueError: when transformers has no model of features for it.
    """
    config.num_channels = in_channels
    try:
        made: nn.Module = transformers.AutoModel.from_config(config, **_without_pooling(config))
    except ValueError as error:
        raise ValueError(
            f"transformers has no vision model of features for '{config.model_type}' ({error}): take one such as "
            "dinov2, vit, swin or convnext."
        ) from error
    return made


def read_vision_state(source: str) -> dict[str, torch.Tensor]:
    """The weights that transformers itself reads from a folder or the hub.

    Args:
        source: the folder or hub name.

    Raises:
        ValueError: when weights are missing there.
    """
    config = read_vision_config(source, {})
    try:
        model, info = transformers.AutoModel.from_pretrained(
            source,
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
            trust_remote_code=False,
            **_without_pooling(config),
        )
    except OSError as error:
        raise ValueError(_unreadable(source)) from error
    if info["missing_keys"]:
        raise ValueError(
            f"'{source}' lacks weights of the image encoder: {name_some(sorted(info['missing_keys']), 8)}."
        )
    state: dict[str, torch.Tensor] = model.state_dict()
    return state


def rebuilding_name(network: str, arguments: Mapping[str, Any]) -> str:
    """The name that builds the same model without its folder: the model type and what is not by default in it."""
    given = {key: value for key, value in arguments.items() if key != "config"}
    config = read_vision_config(network, {**arguments.get("config", {}), **given})
    usual = type(config)().to_dict()
    kept = {
        key: value
        for key, value in config.to_dict().items()
        if key not in _OF_NO_SIZE and (key not in usual or usual[key] != value)
    }
    return format_encoder_name("hf", config.model_type, {"config": kept})


def _without_pooling(config: Any) -> dict[str, bool]:
    """A ViT's pooling layer is of its classification: general weights have none."""
    return {"add_pooling_layer": False} if config.model_type in ("vit", "deit") else {}


def _has_query(backbone: nn.Module) -> bool:
    """Whether there is a [CLS], or SigLIP's pooling by attention."""
    names = ("cls_token", "class_embedding")
    tokens = any(name.rpartition(".")[2] in names for name, _ in backbone.named_parameters())
    return tokens or any(isinstance(part, nn.MultiheadAttention) for part in backbone.modules())


def _unreadable(network: str) -> str:
    if Path(network).is_dir():
        return (
            f"The image encoder's folder '{network}' has no config.json of a model that transformers knows, or no "
            "weights: give the folder that save_pretrained wrote; for a network of timm write timm:FOLDER."
        )
    return (
        f"The image encoder '{network}' is neither a folder, nor a model type of transformers, nor a hub name that can "
        "be reached from here. Without network, download it where there is one and pass hf:FOLDER."
    )
