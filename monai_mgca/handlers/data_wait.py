# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Warns of a training that spends its time waiting for data."""

from __future__ import annotations

import logging
import time

from ignite.engine import Engine, Events

__all__ = ["DataWaitWarning"]


class DataWaitWarning:
    """Warns once, in one line, when a trainer waits for its data for a large part of the time.

    It measures the first ``after`` iterations, but not the first of an epoch, in which the loader's processes start,
    and no validation.

    Args:
        share: of the time, from which on there is a warning.
        after: iterations to measure.

    Raises:
        ValueError: when ``share`` is not between 0 and 1, or ``after`` is below 1.

    Example::

        DataWaitWarning().attach(trainer)
    """

    def __init__(self, share: float = 0.3, after: int = 20) -> None:
        if not 0 < share < 1 or after < 1:
            raise ValueError(f"share must be between 0 and 1 and after at least 1, got {share} and {after}.")
        self.share, self.after = share, after
        self.logger = logging.getLogger(__name__)

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: MONAI's trainer.
        """
        self.count, self.waited, self.whole, self.first = 0, 0.0, 0.0, True
        engine.add_event_handler(Events.EPOCH_STARTED, self._restart)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._ask)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._got)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)

    def _restart(self, engine: Engine) -> None:
        self.first = True

    def _ask(self, engine: Engine) -> None:
        self.asked = time.perf_counter()

    def _got(self, engine: Engine) -> None:
        self.got = time.perf_counter()

    def _step(self, engine: Engine) -> None:
        if self.first or self.count == self.after:
            self.first = False
            return
        self.count += 1
        self.waited += self.got - self.asked
        self.whole += time.perf_counter() - self.asked
        if self.count == self.after and self.waited > self.share * self.whole:
            self.logger.warning(
                f"{self.waited / self.whole:.0%} of the training's time is spent waiting for data: set cache to"
                " 'memory' or 'disk', or raise num_workers up to the number of processor cores."
            )
