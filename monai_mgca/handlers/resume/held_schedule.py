# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A learning rate schedule that goes on where a checkpoint left it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from monai_mgca.utils.dist import rank

__all__ = ["HeldSchedule"]

logger = logging.getLogger(__name__)


class HeldSchedule:
    """Keeps the learning rates where a training's schedule has brought them at its end, when it goes on beyond it.

    A schedule is made for a number of iterations. Those of torch go on after them as their formula has it, a cosine up
    to its beginning.

    Args:
        planned: iterations that the schedule is made for.
        objects: of the training, of which the optimizers count.

    Example::

        held = HeldSchedule(100, {"optimizer": optimizer})
        held.hold(101)  # after the schedule's own step
    """

    def __init__(self, planned: int, objects: Mapping[str, Any]) -> None:
        self.planned = planned
        self.optimizers = [item for item in objects.values() if isinstance(item, torch.optim.Optimizer)]
        self._rates: list[Any] | None = None

    def resume(self, iteration: int, planned: int | None, state: Any) -> None:
        """Take over the plan of the training that goes on, whose optimizers are loaded.

        Args:
            iteration: how many are done.
            planned: of the checkpoint; None where it is of a version that did not write it.
            state: of the trainer, which has the epochs that are asked for.
        """
        if planned is None:
            return
        asked, planned_epochs = state.max_epochs, planned // state.epoch_length
        last = max(asked, iteration // state.epoch_length)  # as many may be done already
        if rank() == 0 and asked != planned_epochs:
            what = (
                f"those after it, up to {asked}, are trained at its last rate"
                if asked > planned_epochs
                else f"it is not made shorter, and epoch {last} is the last one"
            )
            logger.warning(
                f"The schedule of the learning rate was planned for {planned_epochs} epochs: {what}. For another "
                "schedule start a new training from the weights, with --pretrained_path."
            )
        self.planned = planned
        if iteration >= planned:
            self._rates = self._now()

    def _now(self) -> list[Any]:
        return [group["lr"] for optimizer in self.optimizers for group in optimizer.param_groups]

    def hold(self, iteration: int) -> None:
        """
        Args:
            iteration: which is done, and whose step of the schedule too.
        """
        if iteration < self.planned:
            return
        if self._rates is None:
            self._rates = self._now()
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate
