# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Keeps the moving average of the weights up to date."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.engines import IterationEvents
from torch import nn
from torch.optim.swa_utils import AveragedModel

from monai_mgca.utils.dist import unwrap, world_size

__all__ = ["WeightAverage"]


class WeightAverage:
    """Moves an average of the weights after every step of the optimizer.

    With several processes each has the same average; before a validation batch norm's statistics become those of the
    first process, which are saved, as DDP has it for the network itself.

    Args:
        average: of :func:`monai_mgca.networks.average_weights`.
        network: that is trained, in DDP or not.
        evaluator: the validation engine, if it takes the average.

    Example::

        WeightAverage(average_weights(network, 0.999), network, evaluator).attach(trainer)
    """

    def __init__(self, average: AveragedModel, network: nn.Module, evaluator: Engine | None = None) -> None:
        self.average = average
        self.network = unwrap(network)
        self.evaluator = evaluator

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: MONAI's trainer.
        """
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.STARTED, self._share_statistics)

    def __call__(self, engine: Any) -> None:
        """
        Args:
            engine: MONAI's trainer, behind the optimizer's part of an iteration.
        """
        state, parts = engine.state, getattr(engine, "accumulation_steps", 1)
        done = (state.iteration - 1) % state.epoch_length + 1
        if done % parts == 0 or done == state.epoch_length:
            self.average.update_parameters(self.network)

    def _share_statistics(self, _: Engine) -> None:
        for buffer in self.average.module.buffers() if world_size() > 1 else ():
            dist.broadcast(buffer, 0)
