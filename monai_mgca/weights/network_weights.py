# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Loads the weights of a whole network, and says what does not fit."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from torch import nn

from monai_mgca.networks.adapters.adapted_encoder import AdaptedImageEncoder
from monai_mgca.networks.image_encoder import ViTImageEncoder
from monai_mgca.utils.console import name_some
from monai_mgca.utils.errors import CheckpointError
from monai_mgca.weights.encoder_weights import load_encoder, load_timm_vit, load_torchvision_resnet
from monai_mgca.weights.nesting import refuse_non_finite, without_prefix
from monai_mgca.weights.parameter_names import architecture_of, fit_cls_position
from monai_mgca.weights.weight_file import name_of, tensors_of

__all__ = ["describe_start", "load_image_weights", "load_network"]

logger = logging.getLogger(__name__)


def load_image_weights(encoder: nn.Module, source: str | os.PathLike) -> int:
    """Start an image encoder from general weights: timm's ViT or DeiT, torchvision's ResNet, or its own library's.

    Args:
        encoder: of :func:`monai_mgca.networks.create_image_encoder`.
        source: a file (.safetensors, .pt, .pth), or a hub name of timm ("timm/deit_base_patch16_224.fb_in1k"). For an
            encoder of another library also "pretrained": see :func:`load_library_weights`.

    Returns:
        The number of tensors moved.

    Raises:
        CheckpointError: when the weights cannot be read, reached or moved.

    Example::

        load_image_weights(create_image_encoder("resnet50"), "resnet50-11ad3fa6.pth")
    """
    path = Path(source)
    if isinstance(encoder, AdaptedImageEncoder):
        # here, for it imports transformers, which most of what loads a network does without
        from monai_mgca.weights.library_weights import load_library_weights

        moved = load_library_weights(encoder, source)
        logger.info(f"The image encoder starts from {source}: {moved} tensors.")
        return moved
    if not path.is_file():
        try:
            path = Path(hf_hub_download(str(source), "model.safetensors"))
        except Exception as error:  # the hub's client has many errors, and all mean that there is no file
            raise CheckpointError(
                f"The image encoder's weights '{source}' are neither a file nor a hub name that can be reached from "
                "here. Without network, download them where there is one and pass the local file, or '$None' to start "
                "from random weights."
            ) from error
    state = tensors_of(path)
    load: Callable[[nn.Module, Mapping[str, Any]], int]
    if architecture_of(key for key in state if not key.startswith(("head.", "fc."))) is None:  # as in model.pt
        load = load_encoder
    else:
        load = load_timm_vit if isinstance(encoder, ViTImageEncoder) else load_torchvision_resnet
    moved = load(encoder, state)
    logger.info(f"The image encoder starts from {source}: {moved} tensors.")
    return moved


def load_network(network: nn.Module, checkpoint: str | os.PathLike | Mapping[str, Any]) -> int:
    """Load all weights of a network, such as ``model_pretrain.pt`` into :class:`monai_mgca.networks.MGCA`.

    Args:
        network: whose every tensor must be in the checkpoint, and no other; a ViT's [CLS] and its position may be one
            tensor in the one and two in the other.
        checkpoint: path or state dict, also one under "model" or "state_dict".

    Returns:
        The number of tensors.

    Raises:
        CheckpointError: naming the tensors that are missing, foreign or of another shape.

    Example::

        load_network(ImageEmbedder(encoder, head), "bundles/mgca/models/model.pt")
    """
    wanted = network.state_dict()
    state = fit_cls_position(without_prefix(tensors_of(checkpoint), wanted), wanted)
    problems = {
        "missing": [key for key in wanted if key not in state],
        "foreign": [key for key in state if key not in wanted],
        "of another shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
            for key, value in wanted.items()
            if key in state and state[key].shape != value.shape
        ],
    }
    if any(problems.values()):
        found = "; ".join(
            f"{len(keys)} {kind}: {name_some(sorted(keys), 12)}" for kind, keys in problems.items() if keys
        )
        name = "The checkpoint" if isinstance(checkpoint, Mapping) else f"The checkpoint '{checkpoint}'"
        what, mend = _mismatch(state, wanted)
        raise CheckpointError(f"{name} {what} ({found}). {mend}")
    refuse_non_finite(state, name_of(checkpoint))
    network.load_state_dict(state)
    return len(state)


def _mismatch(state: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, str]:
    """What a checkpoint is that does not fit, and what to do."""
    halves = ("image_encoder.", "image_head.")
    has_reports, wants_reports = (any(key.startswith("report_encoder.") for key in keys) for keys in (state, wanted))
    if wants_reports and all(key.startswith(halves) for key in state):
        return (
            "holds the image encoder and its projection alone, as model.pt does",
            "Give the file of both encoders, model_pretrain.pt beside it. To start the image encoder alone from it, "
            "pass it as image_encoder_weights.",
        )
    if has_reports and not wants_reports:
        return (
            "holds both encoders, as model_pretrain.pt does",
            "Give the file of the image encoder and its projection alone, model.pt beside it.",
        )
    if any(key.startswith("img_encoder_q.") for key in state):
        return "is one of the official code", "Run mgca weights convert on it first."
    return (
        "is of another architecture",
        "Build the network with the settings it was made with: image_encoder, image_size, in_channels, report_encoder, "
        "embed_dim and hidden_dim.",
    )


def describe_start(
    image: str | os.PathLike | None, report: str | os.PathLike | None, checkpoint: str | os.PathLike | None = None
) -> str:
    """Log in one line what both encoders of a pretraining start from.

    Args:
        image: the general weights of the image encoder, None for random ones.
        report: the weights of the report encoder, None for random ones.
        checkpoint: of an earlier pretraining, which takes the place of both.

    Returns:
        The line.

    Example::

        print(describe_start(None, "emilyalsentzer/Bio_ClinicalBERT"))
    """
    if checkpoint:
        description = f"Both encoders start from {checkpoint}."
    else:
        of_image, of_report = ("random weights" if source is None else str(source) for source in (image, report))
        description = f"The image encoder starts from {of_image}, the report encoder from {of_report}."
    logger.info(description)
    return description
