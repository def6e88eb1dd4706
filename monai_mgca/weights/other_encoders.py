# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Encoders of other libraries, and users' own, in networks and checkpoints: their names are the same in both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from monai.networks import copy_model_state
from torch import nn

from monai_mgca.networks.adapters.adapted_encoder import AdaptedImageEncoder
from monai_mgca.networks.image_encoder import ImageEncoder, ResNetImageEncoder, ViTImageEncoder
from monai_mgca.utils.errors import CheckpointError
from monai_mgca.weights.mismatch import describe_problems, other_shapes
from monai_mgca.weights.nesting import refuse_non_finite
from monai_mgca.weights.positions import fit_positions

__all__ = ["PARTS", "find_other_encoder", "move_by_names", "parts_of"]

# Where networks of ours and of MONAI keep their encoder, followed step by step.
PARTS = ("module", "network", "image_encoder", "encoder", "vit", "feature_extractor", "body", "backbone")


def parts_of(target: nn.Module) -> Iterator[nn.Module]:
    """A network and the parts that lead to its encoder, from the outside in."""
    part: nn.Module | None = target
    while part is not None:
        yield part
        part = next((held for name in PARTS if isinstance(held := getattr(part, name, None), nn.Module)), None)


def find_other_encoder(target: nn.Module) -> nn.Module | None:
    """The network of another library, or a user's own encoder, in a network; None where it has one of ours.

    Args:
        target: a network with an image encoder.
    """
    for part in parts_of(target):
        if isinstance(part, AdaptedImageEncoder):
            return part.backbone
        if isinstance(part, ImageEncoder) and not isinstance(part, (ViTImageEncoder, ResNetImageEncoder)):
            return part
    return None


def move_by_names(state: Mapping[str, torch.Tensor], body: nn.Module, prefix: str | None, name: str) -> int:
    """Load an encoder whose tensors bear the same names in the checkpoint, all of them, or nothing.

    Args:
        state: the checkpoint.
        body: of :func:`find_other_encoder`.
        prefix: before the names; None to look for it.
        name: of the checkpoint, for messages.

    Returns:
        The number of tensors.

    Raises:
        CheckpointError: when tensors are missing, of another shape, or not numbers.
    """
    wanted = body.state_dict()
    first = next(iter(wanted))
    starts = [key.removesuffix(first) for key in state if key == first or key.endswith(f".{first}")]
    if prefix is not None:
        starts = [f"{prefix.rstrip('.')}."]
    start = max(starts, key=lambda start: sum(f"{start}{key}" in state for key in wanted), default="")
    held = {key: state[f"{start}{key}"] for key in wanted if f"{start}{key}" in state}
    held = fit_positions(held, wanted)
    missing = [key for key in wanted if key not in held]
    found = describe_problems({"missing": missing, "another shape": other_shapes(held, wanted)})
    if found:
        raise CheckpointError(
            f"{name} does not hold the encoder that is built here, {type(body).__name__}. {found}. Build "
            "the target with the encoder that the checkpoint was trained with, by its name and sizes."
        )
    refuse_non_finite(held, name)
    _, moved, _ = copy_model_state(body, held)
    return len(moved)
