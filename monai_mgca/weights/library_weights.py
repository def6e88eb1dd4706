# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Starts an image encoder of another library from weights, which that library itself reads."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from monai_mgca.networks.adapters.adapted_encoder import AdaptedImageEncoder
from monai_mgca.networks.adapters.timm_encoder import TimmImageEncoder
from monai_mgca.networks.adapters.transformers_encoder import TransformersImageEncoder, read_vision_state
from monai_mgca.networks.encoder_names import parse_encoder_name
from monai_mgca.utils.errors import CheckpointError
from monai_mgca.weights.mismatch import describe_problems, other_shapes
from monai_mgca.weights.nesting import refuse_non_finite
from monai_mgca.weights.parameter_names import fold_channels
from monai_mgca.weights.weight_file import tensors_of

__all__ = ["PRETRAINED", "default_image_weights", "load_library_weights"]

# what stands for the weights that a library publishes for a network, or that lie in the folder it was named by
PRETRAINED = "pretrained"
_PUBLISHED = {"vit_base": "timm/deit_base_patch16_224.fb_in1k", "resnet50": "timm/resnet50.tv_in1k"}


def default_image_weights(encoder: str, use_sample: bool = False) -> str | None:
    """What a pretraining starts its image encoder from, unless it is given other weights.

    Args:
        encoder: a name of :func:`monai_mgca.networks.create_image_encoder`.
        use_sample: whether it learns from the built-in sample, for which nothing is to be downloaded.

    Returns:
        The weights that were published for the encoder, those of a folder that it was named by, or None.

    Example::

        print(default_image_weights("resnet50"))  # timm/resnet50.tv_in1k
    """
    other = parse_encoder_name(encoder)
    if other is not None and other.library != "monai" and (os.path.isdir(other.network) or not use_sample):
        return PRETRAINED
    return None if use_sample else _PUBLISHED.get(encoder.removesuffix("_official"))


def load_library_weights(encoder: AdaptedImageEncoder, source: str | os.PathLike) -> int:
    """Load weights as the library of the network does: positions of another size, and kernels of color images, fit.

    Args:
        encoder: an adapter of timm, transformers or MONAI.
        source: "pretrained", or a file; of transformers also a folder or a hub name.

    Returns:
        The number of tensors.

    Raises:
        CheckpointError: when they cannot be read, or are not those of the network.

    Example::

        load_library_weights(create_image_encoder("timm:convnext_tiny"), "convnext_tiny.safetensors")
    """
    if isinstance(encoder, TimmImageEncoder):
        state = _of_timm(encoder, source)
    elif isinstance(encoder, TransformersImageEncoder) and not Path(source).is_file():
        state = _of_transformers(encoder, str(source))
    else:
        state = tensors_of(source)
    wanted = encoder.backbone.state_dict()
    state = {key: _fold(value, wanted[key]) for key, value in state.items() if key in wanted}
    found = describe_problems({"missing": wanted.keys() - state.keys(), "another shape": other_shapes(state, wanted)})
    if found:
        raise CheckpointError(
            f"'{source}' does not hold the weights of {type(encoder.backbone).__name__}. {found}. Name the "
            "encoder that they are of, with its sizes."
        )
    refuse_non_finite(state, f"'{source}'")
    encoder.backbone.load_state_dict(state)
    return len(state)


def _of_timm(encoder: TimmImageEncoder, source: str | os.PathLike) -> Mapping[str, torch.Tensor]:
    """A file's tensors after timm's own conversion, which also fits positions to the image size."""
    network, folder = encoder.backbone, Path(encoder.network)
    if source != PRETRAINED:
        state = tensors_of(source)
    elif folder.is_dir():
        files = [folder / name for name in ("model.safetensors", "pytorch_model.bin") if (folder / name).is_file()]
        if not files:
            raise CheckpointError(f"The folder '{folder}' holds no weights: model.safetensors or pytorch_model.bin.")
        state = tensors_of(files[0])
    else:
        state = _published_by_timm(network, encoder.network)
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    converted: Mapping[str, torch.Tensor] = convert(state, network) if convert else state
    return converted


def _published_by_timm(network: Any, name: str) -> dict[str, torch.Tensor]:
    from timm.models import load_state_dict_from_hf

    hub = network.pretrained_cfg.get("hf_hub_id")
    if not hub:
        raise CheckpointError(f"timm publishes no weights for '{name}' on a hub: give a file as image_encoder_weights.")
    try:
        state: dict[str, torch.Tensor] = load_state_dict_from_hf(hub, weights_only=True)
    except Exception as error:  # the hub's client has many errors, and all mean that there is no file
        raise CheckpointError(
            f"The weights of timm's '{name}' ({hub}) cannot be reached from here. Without network, download "
            "model.safetensors where there is one and pass the file as image_encoder_weights, or '$None' to start from "
            "random weights."
        ) from error
    return state


def _of_transformers(encoder: TransformersImageEncoder, source: str) -> Mapping[str, torch.Tensor]:
    try:
        return read_vision_state(encoder.network if source == PRETRAINED else source.removeprefix("hf:"))
    except ValueError as error:
        raise CheckpointError(f"{error} Or start from random weights: --image_encoder_weights '$None'.") from error


def _fold(value: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The kernel of color images for gray ones, exactly as it answers three equal channels."""
    first = value.ndim >= 4 and value.ndim == wanted.ndim and wanted.shape[1] == 1 and value.shape[1] == 3
    return fold_channels(value) if first and value.shape[0] == wanted.shape[0] else value
