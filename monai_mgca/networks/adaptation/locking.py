# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Locks a tower but for its last groups, as users know it from open_clip."""

from __future__ import annotations

from collections.abc import Iterable
from logging import getLogger
from typing import Any

from torch import nn

from monai_mgca.networks.adaptation.tower_groups import find_groups, tower_body
from monai_mgca.utils.errors import OptionError

__all__ = ["hold_in_evaluation", "lock_tower"]

logger = getLogger(__name__)


def lock_tower(encoder: nn.Module, unlocked_groups: int = 0, tower: str = "image") -> list[str]:
    """Keep an encoder as it is, but for its last blocks or stages: no gradient, and batch norm as in evaluation.

    Dropout and stochastic depth are off in what is locked. Locked layers that come before all that is trained cost no
    backward pass. Of what the encoder defines behind its last block, as a final norm, that block's lot is shared.

    Args:
        encoder: of any library.
        unlocked_groups: how many of its last blocks (of a transformer) or stages (of a network with stages) train.
        tower: "image" or "report", for messages.

    Returns:
        The names of the locked groups.

    Raises:
        OptionError: when there are not so many groups, or none is found.

    Example::

        from monai_mgca.networks import create_image_encoder
        print(lock_tower(create_image_encoder("resnet_compact"), unlocked_groups=2))  # ['stem', 'layer1', 'layer2']
    """
    if unlocked_groups == 0:
        if hasattr(encoder, "freeze"):  # a report encoder runs without gradients then
            encoder.freeze = True  # type: ignore[assignment]
        encoder.requires_grad_(False)
        hold_in_evaluation(encoder.modules())
        logger.info(f"The {tower} encoder is locked.")
        return ["all"]
    try:
        groups = find_groups(encoder)
    except ValueError as error:
        raise OptionError(f"unlocked_{tower}_groups is {unlocked_groups}: {error}") from error
    if unlocked_groups >= len(groups):
        raise OptionError(
            f"unlocked_{tower}_groups is {unlocked_groups}, and the {tower} encoder has {len(groups) - 1} groups: give "
            f"at most that many, or lock_{tower} false, which trains all."
        )
    locked, body = groups[: len(groups) - unlocked_groups], tower_body(encoder)
    for group in locked:
        for name in group.parameters:
            body.get_parameter(name).requires_grad_(False)
        hold_in_evaluation(body.get_submodule(name) for name in group.modules)
    trained = ", ".join(group.name for group in groups[-unlocked_groups:])
    logger.info(f"The {tower} encoder is locked, but for {trained}.")
    return [group.name for group in locked]


def hold_in_evaluation(modules: Iterable[nn.Module]) -> None:
    """Have modules be in evaluation whenever they are called, also where the engines put the network into training.

    Args:
        modules: each for itself.
    """
    for module in modules:
        module.register_forward_pre_hook(_evaluate)


def _evaluate(module: nn.Module, _: Any) -> None:
    module.training = False
