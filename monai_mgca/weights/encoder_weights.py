# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Loads weights into an image encoder: ours, timm's or torchvision's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from logging import getLogger
from typing import Any

import torch
from monai.networks import copy_model_state
from torch import nn

import monai_mgca.networks.encoder_sizes  # noqa: F401  (MONAI's FlexibleUNet then knows our encoders by name)
from monai_mgca.utils.console import name_some
from monai_mgca.utils.errors import CheckpointError
from monai_mgca.weights.mismatch import describe_problems, other_shapes, refuse_other_dimensions
from monai_mgca.weights.nesting import refuse_non_finite
from monai_mgca.weights.other_encoders import find_other_encoder, move_by_names, parts_of
from monai_mgca.weights.parameter_names import (
    FIRST_KERNELS,
    architecture_of,
    fit_cls_position,
    fold_channels,
    vit_from_timm,
)
from monai_mgca.weights.positions import fit_positions
from monai_mgca.weights.weight_file import name_of, tensors_of

__all__ = ["find_backbone", "load_encoder", "load_timm_vit", "load_torchvision_resnet"]

logger = getLogger(__name__)

Checkpoint = str | os.PathLike | Mapping[str, Any]
# What some networks of MONAI have besides an encoder and no pretraining fills: heads, and norms that nothing calls.
UNFILLED = {"fc", "classification_head", "norm_cross_attn"}


def load_encoder(target: nn.Module, checkpoint: Checkpoint, prefix: str | None = None) -> int:
    """Move the image encoder of a checkpoint into a network: every tensor of it, or an error that names the others.

    First-layer kernels for several channels are summed when the target has one channel: its output is exactly that of
    equal channels before; so is [CLS] with its position where the target holds them in one. By name may be left out:
    ``cls_token`` where the target has none (UNETR), and the last stages of a ResNet where the target ends earlier (the
    feature pyramid of a RetinaNet). A ViT's positions are interpolated to the target's image size, and the log says so.
    Nothing is moved when there is an error.

    Args:
        target: :class:`ViTImageEncoder`, :class:`ResNetImageEncoder`, :class:`ImageEmbedder`, :class:`MGCA`, or a
            network of MONAI with such an encoder: ``FlexibleUNet`` with a ResNet, ``UNETR``, ``RetinaNet`` or its
            feature extractor, ``ViT``, ``ResNet``; any network with an encoder of another library.
        checkpoint: path of ``model.pt``, ``model_pretrain.pt`` or alike (``.pt``, ``.safetensors``), or a state dict.
        prefix: what the encoder's names begin with in the checkpoint; none is needed where there is one encoder in it.

    Returns:
        The number of tensors moved, batch norm's counters included.

    Raises:
        CheckpointError: when the file cannot be read, holds no encoder or one of another architecture, or when a
            tensor has no place in the target or another shape.

    Example::

        from monai.networks.nets import FlexibleUNet
        from monai_mgca.networks import create_image_encoder
        unet = FlexibleUNet(in_channels=1, out_channels=1, backbone="resnet50", pretrained=False, spatial_dims=2)
        print(load_encoder(unet, create_image_encoder("resnet50").state_dict()))
    """
    state, other = tensors_of(checkpoint), find_other_encoder(target)
    if other is not None:
        return move_by_names(state, other, prefix, name_of(checkpoint))
    return _move(_encoder_of(state, prefix), target, name_of(checkpoint))


def load_timm_vit(encoder: nn.Module, checkpoint: Checkpoint) -> int:
    """Start a vision transformer from a timm ViT or DeiT; for images of another size its positions are interpolated.

    Args:
        encoder: :class:`ViTImageEncoder`, or what :func:`load_encoder` takes. With one input channel the RGB kernels
            are summed.
        checkpoint: path or state dict, also under "model" as DeiT's files have it. The classifier ``head`` is ignored.

    Returns:
        The number of tensors moved.

    Raises:
        CheckpointError: as :func:`load_encoder`.
    """
    state = {key: value for key, value in tensors_of(checkpoint).items() if not key.startswith("head.")}
    _expect(state, "vit", "a vision transformer of timm")
    return _move(vit_from_timm(state), encoder, name_of(checkpoint))


def load_torchvision_resnet(encoder: nn.Module, checkpoint: Checkpoint) -> int:
    """Start a ResNet from torchvision's of the same depth.

    Args:
        encoder: :class:`ResNetImageEncoder`, or what :func:`load_encoder` takes. With one input channel the RGB kernels
            are summed.
        checkpoint: path or state dict. The classifier ``fc`` is ignored.

    Returns:
        The number of tensors moved.

    Raises:
        CheckpointError: as :func:`load_encoder`.
    """
    state = {key: value for key, value in tensors_of(checkpoint).items() if not key.startswith("fc.")}
    _expect(state, "resnet", "a ResNet of torchvision")
    return _move(state, encoder, name_of(checkpoint))


def _expect(state: Mapping[str, torch.Tensor], architecture: str, name: str) -> None:
    found = architecture_of(state)
    if found != architecture:
        raise CheckpointError(f"The checkpoint holds {found or 'neither a vit nor a resnet'}, not {name}.")


def _encoder_of(state: Mapping[str, torch.Tensor], prefix: str | None) -> dict[str, torch.Tensor]:
    """The encoder's tensors by the names of its backbone."""
    base = f"{prefix.rstrip('.')}." if prefix else ""
    starts = (base + part for part in ("image_encoder.backbone.", "backbone.", ""))
    start = next((start for start in starts if any(key.startswith(start) for key in state)), base)
    encoder = _below(state, start)
    if architecture_of(encoder) is None:
        found = [] if prefix else _prefixes(state)
        if len(found) == 1:
            logger.info(f"The encoder is under '{found[0]}' in the checkpoint.")
            return _below(state, found[0])
        raise CheckpointError(_no_encoder(state, start, found))
    return encoder


def _below(state: Mapping[str, torch.Tensor], start: str) -> dict[str, torch.Tensor]:
    """The encoder under a prefix, without the classifier that general weights have."""
    encoder = {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}
    encoder = {key: value for key, value in encoder.items() if not key.startswith(("head.", "fc."))}
    return vit_from_timm(encoder) if "patch_embed.proj.weight" in encoder else encoder


def _prefixes(state: Mapping[str, torch.Tensor]) -> list[str]:
    """All beginnings of names under which there is an encoder."""
    kernels = (*FIRST_KERNELS, "patch_embed.proj.weight")
    starts = {key.removesuffix(kernel) for key in state for kernel in kernels if key.endswith(f".{kernel}")}
    return sorted(start for start in starts if architecture_of(_names_below(state, start)) is not None)


def _names_below(state: Mapping[str, torch.Tensor], start: str) -> list[str]:
    return [key.removeprefix(start) for key in state if key.startswith(start)]


def _no_encoder(state: Mapping[str, torch.Tensor], start: str, found: list[str]) -> str:
    if any(key.startswith("img_encoder_q.") for key in state):
        mend = "It is one of the official code: run mgca weights convert on it first."
    elif found:
        mend = f"There are several: give one as prefix, {', '.join(found)}."
    else:
        mend = "Give the prefix that the encoder's names have in it."
    begins = name_some(sorted({".".join(key.split(".")[:2]) for key in state}), 6)
    return (
        f"The checkpoint has no image encoder (vit or resnet) under '{start or '(no prefix)'}'; "
        f"its names begin with {begins}. {mend}"
    )


def find_backbone(target: nn.Module) -> nn.Module:
    """The ViT or ResNet of MONAI's names in a network, or another library's, found by the parts that lead to it.

    Args:
        target: what :func:`load_encoder` takes.

    Raises:
        CheckpointError: when there is none.

    Example::

        print(type(find_backbone(create_image_encoder("resnet_compact"))).__name__)
    """
    other = find_other_encoder(target)
    if other is not None:
        return other
    for part in parts_of(target):
        if architecture_of(part.state_dict()) is not None:
            return part
    raise CheckpointError(
        f"{type(target).__name__} has no vision transformer or ResNet of MONAI's names that could take the "
        "encoder: pass the part that is one."
    )


def _may_leave(key: str, wanted: Mapping[str, torch.Tensor]) -> bool:
    """A ViT without [CLS] takes no token for it; a ResNet without its last stages takes none of theirs."""
    stage = key.split(".")[0]
    if stage.startswith("layer"):
        return stage > max(name.split(".")[0] for name in wanted if name.startswith("layer"))
    return key == "cls_token"


def _move(state: dict[str, torch.Tensor], target: nn.Module, name: str) -> int:
    body = find_backbone(target)
    wanted = body.state_dict()
    held, built = architecture_of(state), architecture_of(wanted)
    if held != built:
        raise CheckpointError(f"The checkpoint seems to hold a {held}, but {type(target).__name__} has a {built}.")
    refuse_other_dimensions(state, wanted, FIRST_KERNELS, type(target).__name__)
    state = fit_positions(fit_cls_position(state, wanted), wanted)
    left = {key for key in state if key not in wanted and _may_leave(key, wanted)}
    state = {key: value for key, value in state.items() if key not in left}
    for key in FIRST_KERNELS:
        if key in state and key in wanted:
            state[key] = _fit_channels(key, state[key], wanted[key])
    unplaced = state.keys() - wanted.keys()
    unfilled = {key for key in wanted.keys() - state.keys() if UNFILLED.isdisjoint(key.split("."))}
    shapes = other_shapes(state, wanted)
    problems = {"no place in the target": unplaced, "missing in the checkpoint": unfilled, "another shape": shapes}
    found = describe_problems(problems)
    if found:
        raise CheckpointError(
            f"The encoder does not fit {type(target).__name__}. {found}. Build the target with the sizes of "
            "the checkpoint's encoder."
        )
    refuse_non_finite(state, name)
    _, moved, _ = copy_model_state(body, state)
    if left:
        logger.info("%d tensors moved; %s has no %s.", len(moved), type(target).__name__, name_some(sorted(left), 12))
    return len(moved)


def _fit_channels(key: str, kernel: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    has, wants = kernel.shape[1], wanted.shape[1]
    if wants == 1 and has > 1:
        return fold_channels(kernel)
    if has == 1 and wants > 1:
        raise CheckpointError(
            f"The checkpoint's encoder reads 1 channel, the target {wants} ('{key}'): build the target with 1 input "
            "channel and give it grayscale images."
        )
    return kernel
