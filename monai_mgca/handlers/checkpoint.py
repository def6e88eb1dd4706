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
import re
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver
from monai.handlers import CheckpointSaver, EarlyStopHandler

from monai_mgca.utils.dist import rank
from monai_mgca.utils.errors import CheckpointError

__all__ = ["TrainingCheckpoint"]

_NAME = "checkpoint_epoch={}.pt"


class TrainingCheckpoint:
    """Saves all that a training needs to go on, after every epoch, and goes on from the newest of these files.

    Put it behind the ``ValidationHandler``, so that a file knows what its epoch's validation gave.

    A file holds tensors and plain containers only, is written to a temporary name and renamed. The last two are kept.
    What is in it: the given objects, the trainer's counters, the evaluator's best metric, and early stopping.

    Args:
        save_dir: folder of the checkpoints.
        objects: what has a ``state_dict``, by name: network, optimizer, scheduler; the trainer and its
            AMP scaler are added.
        evaluator: the validation engine, whose best metric must survive.
        best: the savers of the best networks, which must know the best metric too.
        early_stop: counts the epochs without improvement.
        resume: go on from the newest checkpoint in ``save_dir``; start anew where there is none.

    Raises:
        CheckpointError: when the newest checkpoint cannot be read, or is of another network.

    Example::

        TrainingCheckpoint("models", {"network": network, "optimizer": optimizer}, resume=True).attach(trainer)
    """

    def __init__(
        self,
        save_dir: str | Path,
        objects: dict[str, Any],
        evaluator: Engine | None = None,
        best: list[CheckpointSaver] | None = None,
        early_stop: EarlyStopHandler | None = None,
        resume: bool = False,
    ) -> None:
        self.save_dir = Path(save_dir)
        self.objects = objects
        self.evaluator = evaluator
        self.best = best or []
        self.early_stop = early_stop
        self.resume = resume
        self.logger = logging.getLogger(__name__)

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: MONAI's trainer.
        """
        self.objects = {**self.objects, "trainer": engine}
        if getattr(engine, "scaler", None) is not None:
            self.objects["scaler"] = engine.scaler
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    def _start(self, engine: Engine) -> None:
        if self.resume:
            path = newest_checkpoint(self.save_dir)
            if path is None:
                self.logger.info(f"No checkpoint in {self.save_dir}: training starts from the beginning.")
            else:
                self._load(engine, path)

    def _save(self, engine: Engine) -> None:
        for item in self.objects.values():
            # torch's ZeroRedundancyOptimizer: the first process takes the parts of the others
            if hasattr(item, "consolidate_state_dict"):
                item.consolidate_state_dict()
        if rank() > 0:
            return
        state = {name: _unwrap(item).state_dict() for name, item in self.objects.items()}
        state["progress"] = self._progress()
        saver = DiskSaver(str(self.save_dir), create_dir=True, require_empty=False)
        saver(state, _NAME.format(engine.state.epoch))
        for path in _checkpoints(self.save_dir)[:-2]:
            path.unlink()

    def _progress(self) -> dict[str, Any]:
        progress: dict[str, Any] = {"savers": [saver._key_metric_checkpoint.state_dict() for saver in self.best]}
        if self.evaluator is not None:
            state = self.evaluator.state
            progress["best_metric"], progress["best_metric_epoch"] = state.best_metric, state.best_metric_epoch
        if self.early_stop is not None:
            progress["early_stop"] = self.early_stop._handler.state_dict()
        return progress

    def _restore(self, progress: dict[str, Any]) -> None:
        # a saver that forgot the best network would overwrite it with the next one, however bad that is
        for saver, state in zip(self.best, progress["savers"], strict=True):
            saver.load_state_dict(state)
        if self.evaluator is not None:
            self.evaluator.state.best_metric = progress["best_metric"]
            self.evaluator.state.best_metric_epoch = progress["best_metric_epoch"]
        if self.early_stop is not None and "early_stop" in progress:
            self.early_stop._handler.load_state_dict(progress["early_stop"])

    def _load(self, engine: Engine, path: Path) -> None:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise CheckpointError(
                f"The checkpoint {path} cannot be read ({type(error).__name__}): delete it to go on from the one "
                "before it."
            ) from error
        max_epochs = engine.state.max_epochs
        try:
            Checkpoint.load_objects({name: _unwrap(item) for name, item in self.objects.items()}, state)
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"The checkpoint {path} does not fit this network: resume with the options it was made with, or "
                f"without --resume. {error}"
            ) from error
        engine.state.max_epochs = max_epochs
        self._restore(state["progress"])
        self.logger.info(f"Resumed from {path}: epoch {engine.state.epoch} of {max_epochs} is done.")


def _unwrap(item: Any) -> Any:
    return item.module if isinstance(item, torch.nn.parallel.DistributedDataParallel) else item


def _checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    pattern = re.compile(re.escape(_NAME).replace(r"\{\}", r"(\d+)"))
    found = ((pattern.fullmatch(path.name), path) for path in folder.glob("checkpoint_epoch=*.pt"))
    return [path for match, path in sorted(((int(m[1]), p) for m, p in found if m))] if folder.is_dir() else []


def newest_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint of the last epoch in a folder, None where there is none.

    Args:
        folder: where :class:`TrainingCheckpoint` saved.
    """
    checkpoints = _checkpoints(Path(folder))
    return checkpoints[-1] if checkpoints else None
