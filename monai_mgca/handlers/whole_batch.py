# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Gives handlers the output of a whole batch that was trained in parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ignite.engine import Engine
from monai.engines import IterationEvents

__all__ = ["WholeBatchOutput", "output_of"]


class WholeBatchOutput:
    """Makes a batch's output the one item of a list, as MONAI's loggers, MLflow's for one, expect of a trainer.

    Decollation would make such a list with an item a sample, by a loop over the samples; but the loss of a contrastive
    training has no parts that belong to a sample.

    Example::

        WholeBatchOutput().attach(trainer)
    """

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: MONAI's trainer, with ``decollate=False``.
        """
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        state: Any = engine.state
        state.output = [state.output]


def output_of(output: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The output of an engine's iteration, with or without :class:`WholeBatchOutput`."""
    return output if isinstance(output, Mapping) else output[0]
