# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Stops a training whose key metric does not improve any more."""

from __future__ import annotations

import math
from typing import Any

from ignite.engine import Engine
from monai.handlers import EarlyStopHandler

__all__ = ["EarlyStopOnKeyMetric"]


class EarlyStopOnKeyMetric(EarlyStopHandler):
    """Stops the trainer when the evaluator's key metric has not improved for some validations.

    MONAI's handler wants the trainer before it exists when a config makes both; this one is attached to the trainer.
    Put it behind the ``ValidationHandler``. A key metric that is not finite is no improvement.

    Args:
        evaluator: the validation engine.
        patience: validations without improvement; 0: the trainer is never stopped.
        interval: epochs between validations.
        negative_sign: the key metric is an error, smaller is better.

    Example::

        EarlyStopOnKeyMetric(evaluator, patience=5).attach(trainer)
    """

    def __init__(self, evaluator: Engine, patience: int, interval: int = 1, negative_sign: bool = False) -> None:
        def score(_: Engine) -> float:
            state: Any = evaluator.state
            value = float(state.metrics[state.key_metric_name])
            # nothing would be better, or worse, than nan
            return -math.inf if not math.isfinite(value) else -value if negative_sign else value

        super().__init__(patience, score)
        self.interval = interval

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: MONAI's trainer.
        """
        if self.patience:
            self.set_trainer(engine)
            super().attach(engine)

    def __call__(self, engine: Engine) -> None:
        if engine.state.epoch % self.interval == 0:
            super().__call__(engine)
