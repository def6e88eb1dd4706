# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ignite.engine import Engine, Events

__all__ = ["RunSummary"]


class RunSummary:
    """Logs at the end of a run what it reached, how long it took and what was written where.

    A figure that has an interval, as NAME_low and NAME_high beside it, is told in one line with it.

    Args:
        files: the files' paths by what they are; a pattern ("eval/events*") stands for the newest that fits.
        evaluator: the validation engine, if it is another than the one attached to.
        figures: the metrics to tell; all of the evaluator if None.
        next_steps: lines that tell what can be done with the result.

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

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: MONAI's trainer or evaluator.
        """
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.COMPLETED, self._completed)

    def _started(self, engine: Engine) -> None:
        self.start = time.time()

    def _completed(self, engine: Engine) -> None:
        state = (self.evaluator or engine).state
        minutes, seconds = divmod(round(time.time() - self.start), 60)
        lines = [f"Finished epoch {engine.state.epoch} after {minutes} min {seconds} s."]
        if getattr(state, "best_metric_epoch", -1) > 0 and self.evaluator is not None:
            lines.append(f"Best {state.key_metric_name}: {state.best_metric:.4f} at epoch {state.best_metric_epoch}.")
        bounds = {f"{name}_{end}" for name in state.metrics for end in ("low", "high")}
        names = self.figures if self.figures is not None else sorted(set(state.metrics) - bounds)
        undefined = getattr(state, "undefined", {})
        lines += [self._tell(state.metrics, name, undefined.get(name)) for name in names if name in state.metrics]
        lines.append("Written:")
        for meaning, pattern in self.files.items():
            folder, name = Path(pattern).parent, Path(pattern).name
            # patterns apply to the name alone: a folder's own name may hold brackets
            newest = max(folder.glob(name), key=lambda path: path.stat().st_mtime, default=None)
            lines.append(f"  {newest or pattern + ' (not written)'}: {meaning}")
        self.logger.info("\n".join([*lines, *self.next_steps]))

    @staticmethod
    def _tell(metrics: Mapping[str, float], name: str, undefined: tuple[int, int] | None = None) -> str:
        """A figure, with its interval if it has one, and for how many of how many masks it is not defined."""
        low, high = (metrics.get(f"{name}_{end}") for end in ("low", "high"))
        interval = "" if low is None else f" ({low:.4f} to {high:.4f})"
        left_out = "  (undefined for {} of {} masks)".format(*undefined) if undefined and undefined[0] else ""
        return f"  {name:34s} {metrics[name]:.4f}{interval}{left_out}"
