# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Prints at the end of a run what it measured and what it wrote where."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events, State

from monai_mgca.handlers.training_progress import duration

__all__ = ["RunSummary"]


class RunSummary:
    """Logs at the end of a run what it reached, how long it took and what was written where.

    Of a training, the figures of the best epoch, whose network is kept, stand beside those of the last one. A figure
    that has an interval, as NAME_low and NAME_high beside it, is reported in one line with it.

    Args:
        files: the files' paths by what they are; a pattern ("eval/events*") stands for the newest that fits.
        evaluator: the validation engine, if it is another than the one attached to.
        figures: the metrics to report; all of the evaluator if None.
        next_steps: lines that say what can be done with the result.

    Example::

        RunSummary({"image encoder": "models/model.pt"}, evaluator).attach(trainer)
    """

    def __init__(
        self,
        files: Mapping[str, str],
        evaluator: Engine | None = None,
        figures: Sequence[str] | None = None,
        next_steps: Sequence[str] = (),
    ) -> None:
        self.files = files
        self.evaluator = evaluator
        self.figures = figures
        self.next_steps = next_steps
        self.logger = logging.getLogger(__name__)
        self._by_epoch: dict[int, dict[str, str]] = {}

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: MONAI's trainer or evaluator.
        """
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.COMPLETED, self._completed)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.COMPLETED, self._validated)

    def _started(self, engine: Engine) -> None:
        self.start = time.time()
        self._by_epoch = {}

    def _validated(self, evaluator: Engine) -> None:
        state: Any = evaluator.state
        epochs = {state.best_metric_epoch, state.epoch}
        self._by_epoch = {epoch: own for epoch, own in self._by_epoch.items() if epoch in epochs}
        self._by_epoch[state.epoch] = _show(state)

    def _completed(self, engine: Engine) -> None:
        took = duration(time.time() - self.start)
        lines = [f"Finished epoch {engine.state.epoch} after {took}."]
        if self.evaluator is None:
            lines += self._table({"": _show(engine.state)})
        else:
            lines += self._best_and_last(self.evaluator.state)
        lines.append("Written:")
        for meaning, pattern in self.files.items():
            folder, name = Path(pattern).parent, Path(pattern).name
            # patterns apply to the name alone: a folder's own name may hold brackets
            newest = max(folder.glob(name), key=lambda path: path.stat().st_mtime, default=None)
            lines.append(f"  {newest or pattern + ' (not written)'}: {meaning}")
        self.logger.info("\n".join([*lines, *self.next_steps]))

    def _best_and_last(self, state: Any) -> list[str]:
        """The figures of both epochs, each under its own name."""
        figures = _show(state)
        best, last = getattr(state, "best_metric_epoch", -1), state.epoch
        key: Any = getattr(state, "key_metric_name", None)
        if best < 1:
            return self._table({"": figures})
        if key not in state.metrics:
            # resumed after its end: no epoch was validated in this process
            return [f"Best epoch {best}: {key} {state.best_metric:.4f}."]
        if best == last:
            summary = f"Best epoch {best}, the last one: {key} {state.best_metric:.4f}"
            return [f"{summary}.", *self._table({"": figures})]
        summary = f"Best epoch {best}: {key} {state.best_metric:.4f}; last epoch {last}: {key} {state.metrics[key]:.4f}"
        # the best epoch of a resumed training may be of a process that has ended
        known = self._by_epoch.get(best, {key: f"{state.best_metric:.4f}"})
        columns = {f"best epoch {best}": known, f"last epoch {last}": figures}
        return [f"{summary}. The files hold the best one.", *self._table(columns)]

    def _table(self, columns: Mapping[str, Mapping[str, str]]) -> list[str]:
        """A line for each figure, with a column for each epoch, which has a head where there are several."""
        *_, last = columns.values()
        names = self.figures if self.figures is not None else sorted(last)
        width = 14 if len(columns) > 1 else 0
        head = [f"  {'':34s} " + "  ".join(f"{title:>{width}s}" for title in columns)] if len(columns) > 1 else []
        return head + [
            f"  {name:34s} " + "  ".join(f"{own.get(name, '-'):>{width}s}" for own in columns.values())
            for name in names
            if name in last
        ]


def _show(state: State) -> dict[str, str]:
    """Each figure, with its interval if it has one, and for how many of how many masks it is not defined."""
    shown, bounds = {}, {f"{name}_{end}" for name in state.metrics for end in ("low", "high")}
    for name, value in state.metrics.items():
        if name not in bounds:
            low, high = (state.metrics.get(f"{name}_{end}") for end in ("low", "high"))
            interval = "" if low is None or high is None else f" ({low:.4f} to {high:.4f})"
            missing, all_ = getattr(state, "undefined", {}).get(name, (0, 0))
            shown[name] = f"{value:.4f}{interval}" + (f"  (undefined for {missing} of {all_} masks)" if missing else "")
    return shown
