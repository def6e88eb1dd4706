# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Logs the progress of a training: loss, speed, time that is left."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from monai.utils import CommonKeys

from monai_mgca.handlers.whole_batch import output_of

__all__ = ["TrainingProgress", "duration"]


def duration(seconds: float) -> str:
    """A time in words.

    Example::

        print(duration(3725))  # 1 h 2 min
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


class TrainingProgress(ProgressBar):
    """A progress bar over the iterations of an epoch, with the loss, and a line for each epoch that is done.

    The line has the losses, the key metric of the validation, and the time that the whole run still takes, as the
    epochs before it took. The bar goes away when its epoch is done.

    Args:
        evaluator: the validation engine, whose key metric is reported too.
        figures: further metrics of the evaluator to report.
        desc: text before the bar.
        kwargs: further arguments of ignite's ``ProgressBar``.

    Example::

        TrainingProgress(evaluator, desc="Pretraining").attach(trainer)
    """

    def __init__(
        self, evaluator: Engine | None = None, figures: Sequence[str] = (), desc: str = "Epoch", **kwargs: Any
    ) -> None:
        # where the output is a file, each state of the bar is a line that stays
        interval = 0.5 if getattr(kwargs.get("file", sys.stderr), "isatty", bool)() else 10
        super().__init__(desc=desc, **{"persist": False, "mininterval": interval, **kwargs})
        self.evaluator = evaluator
        self.figures = figures
        self.logger = logging.getLogger(__name__)

    def attach(self, engine: Engine, **kwargs: Any) -> None:  # type: ignore[override]
        """
        Args:
            engine: MONAI's trainer.
            kwargs: further arguments of ignite's ``ProgressBar.attach``.
        """
        super().attach(
            engine,
            output_transform=lambda output: {"loss": output_of(output)[CommonKeys.LOSS]},
            event_name=Events.ITERATION_COMPLETED,
            **kwargs,
        )
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.EPOCH_STARTED, self._epoch_started)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_completed)

    def _started(self, engine: Engine) -> None:
        # of a resumed training a part is done: its time is not of this run
        self._begin, self._done = time.monotonic(), engine.state.iteration

    def _epoch_started(self, engine: Engine) -> None:
        self._epoch_begin = time.monotonic()

    def _epoch_completed(self, engine: Any) -> None:
        if not hasattr(self, "_begin"):  # a training that is resumed where an epoch ends begins with this event
            self._started(engine)
        now, state = time.monotonic(), engine.state
        figures = {name: state.metrics[name] for name in sorted(state.metrics, key=len) if name.endswith("loss")}
        best = ""
        if self.evaluator is not None and self.evaluator.state.epoch == state.epoch:
            found: Any = self.evaluator.state
            figures |= {n: found.metrics[n] for n in (found.key_metric_name, *self.figures) if n in found.metrics}
            best = " (best so far)" if found.best_metric_epoch == state.epoch else ""
        parts = ", ".join(f"{name} {value:.4f}" for name, value in figures.items()) or "done"
        # an epoch that a checkpoint was written in began in another process
        took = duration(now - getattr(self, "_epoch_begin", self._begin))
        done, left = state.iteration - self._done, state.max_epochs * state.epoch_length - state.iteration
        over = left <= 0 or done <= 0 or engine.should_terminate
        rest = "" if over else f", {duration((now - self._begin) / done * left)} left"
        self.logger.info(f"Epoch {state.epoch}/{state.max_epochs}: {parts}{best}; {took}{rest}.")
