# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Freezes the prototypes during the first epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ignite.engine import Engine
from monai.engines import IterationEvents

if TYPE_CHECKING:
    from monai_mgca.networks import MGCA

__all__ = ["FreezePrototypes"]


class FreezePrototypes:
    """Keeps the prototypes as they are in the first epochs, while the embeddings are still meaningless.

    The gradient is dropped rather than not computed: DDP fixes what it synchronizes when it wraps the network.

    Args:
        network: :class:`monai_mgca.networks.MGCA`, not its DDP wrapper.
        epochs: how many epochs.

    Example::

        FreezePrototypes(network, epochs=1).attach(trainer)
    """

    def __init__(self, network: MGCA, epochs: int = 1) -> None:
        self.network = network
        self.epochs = epochs

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: MONAI's trainer.
        """
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if engine.state.epoch <= self.epochs:
            self.network.prototypes.weight.grad = None
