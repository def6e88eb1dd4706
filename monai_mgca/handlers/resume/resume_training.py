# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Checkpoints of a training, from which it resumes bit for bit."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import Signals
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint
from ignite.metrics import Metric
from monai.handlers import CheckpointSaver, EarlyStopHandler
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from monai_mgca.handlers.resume.checkpoint_folder import CheckpointFolder
from monai_mgca.handlers.resume.checkpoint_state import (
    check_optimizer,
    check_schedule,
    check_settings,
    go_to,
    process_state,
    progress_of,
    restore_progress,
    settings_of,
)
from monai_mgca.handlers.resume.held_schedule import HeldSchedule
from monai_mgca.utils.console import Lines
from monai_mgca.utils.dist import gather_plain, max_over_processes, rank, unwrap
from monai_mgca.utils.errors import CheckpointError
from monai_mgca.utils.random_state import restore_random_state
from monai_mgca.utils.signals import StopSignals, shield_workers

__all__ = ["TrainingCheckpoint"]

# what is saved beside the objects
_OWN = ("trainer", "progress", "settings", "processes")


class TrainingCheckpoint:
    """Saves all that a training needs to go on as if it had not been stopped, and goes on from the newest such file.

    It saves after every epoch, before a validation begins, and every so many iterations. On SIGTERM and SIGINT it
    lets the iteration, or the validation, come to its end, saves, and ends the run;
    :func:`monai_mgca.utils.leave_after_signal` then ends the program. With accumulated gradients it saves between
    the optimizer's steps alone.

    A file holds tensors and plain containers only, appears whole or not at all, and the last two are kept; where the
    newest is damaged, the one before it is used, with a warning. In it are the given objects, the trainer's place in
    its epoch, the random numbers of every process, the metrics so far, the best metric, and early stopping.

    Put it behind the ``ValidationHandler`` and ``EarlyStopOnKeyMetric``.

    Args:
        save_dir: folder of the checkpoints, which all processes must see.
        objects: what has a ``state_dict``, by name: network, optimizer, scheduler; the trainer's AMP scaler is added.
            None, as an average that is not kept, is left out.
        evaluator: the validation engine, whose best metric must survive.
        best: the savers of the best networks, which must know the best metric too.
        early_stop: counts the epochs without improvement.
        metrics: of the trainer, by name, so that those of an epoch that was stopped are of all of it.
        data: the training entries; a checkpoint of other images is refused.
        options: of the config, by name (:func:`monai_mgca.options.plain_options`). A checkpoint of a training with
            others that a resumed one does not obey is refused; the others are reported.
        interval: iterations between checkpoints within an epoch; 0: none.
        resume: go on from the newest checkpoint in ``save_dir``; start from the beginning where there is none.

    Raises:
        CheckpointError: when no checkpoint in ``save_dir`` can be read, or the newest is of another network or of a
            training with other data, batches or processes.
        StorageError: when one cannot be written.

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
        metrics: Mapping[str, Metric] | None = None,
        data: Sequence[Mapping[str, Any]] | None = None,
        options: Mapping[str, Any] | None = None,
        interval: int = 0,
        resume: bool = False,
    ) -> None:
        self.folder = CheckpointFolder(save_dir)
        self.objects = {name: item for name, item in objects.items() if item is not None}
        self.evaluator = evaluator
        self.best = best or []
        # with a patience of 0 it counts nothing
        self.early_stop = early_stop if early_stop is not None and early_stop.patience else None
        self.metrics = metrics or {}
        self.data = data
        self.options = options
        self.interval = interval
        self.resume = resume
        # between the last iteration of an epoch and its end; also when the evaluator runs without a training
        self._unfinished = False
        self.logger = logging.getLogger(__name__)

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: MONAI's trainer.
        """
        self.signals = StopSignals()
        engine.run = functools.partial(self._run, engine.run)  # type: ignore[method-assign]
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._restore_metrics)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._after_iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.STARTED, self._before_validation, engine)

        for loader in (getattr(engine, "data_loader", None), getattr(self.evaluator, "data_loader", None)):
            if isinstance(loader, DataLoader):
                shield_workers(loader)

    def _run(self, run: Any, *args: Any, **kwargs: Any) -> Any:
        with self.signals:
            return run(*args, **kwargs)

    def _start(self, engine: Any) -> None:
        self._saved_at, self._unfinished = engine.state.iteration, False
        self._settings = settings_of(engine, self.data, self.options)
        self._schedule = HeldSchedule(engine.state.max_epochs * engine.state.epoch_length, self.objects)
        self._resumed_metrics: Mapping[str, Any] = {}
        # MONAI's trainer makes it when it runs
        if getattr(engine, "scaler", None) is not None:
            self.objects = {**self.objects, "scaler": engine.scaler}
        if rank() == 0:
            self.folder.tidy()
        if self.resume:
            found = self.folder.read()
            if len(set(gather_plain("" if found is None else found[0].name))) > 1:
                raise CheckpointError(f"The processes see different checkpoints in {self.folder.path}: share it.")
            if found is None:
                self.logger.info(f"No checkpoint in {self.folder.path}: training starts from the beginning.")
            else:
                self._load(engine, *found)
        elif rank() == 0 and self.folder.all():
            self.logger.warning(
                f"The checkpoints of an earlier training in {self.folder.path} are removed when the first of this one "
                "is written: stop now, and give --resume true, to go on from them."
            )

    def _after_iteration(self, engine: Any) -> None:
        state = engine.state
        self._schedule.hold(state.iteration)
        done = state.iteration % state.epoch_length
        self._unfinished = done == 0
        if self._unfinished or done % getattr(engine, "accumulation_steps", 1):
            # what belongs to the end of an epoch comes next, or the gradients of a step are not whole
            return
        signal = self._signal()
        if signal or (self.interval and state.iteration - self._saved_at >= self.interval):
            self._save(engine)
        if signal:
            self._stop(engine, signal)

    def _before_validation(self, evaluator: Engine, engine: Any) -> None:
        if self._unfinished:
            self._save(engine)

    def _after_epoch(self, engine: Any) -> None:
        self._unfinished = False
        self._save(engine)
        over = engine.should_terminate or engine.state.epoch >= engine.state.max_epochs
        signal = self._signal()
        if signal and not over:
            self._stop(engine, signal)

    def _signal(self) -> int:
        """The signal that any process got, 0 if none did."""
        return max_over_processes(self.signals.received)

    def _stop(self, engine: Engine, signal: int) -> None:
        # no process may leave while the first still writes: torchrun would end that one too
        max_over_processes(0)
        self.signals.obey(signal)
        if rank() == 0:
            self.logger.warning(
                f"{Signals(signal).name}: stopped after iteration {engine.state.iteration}, in epoch "
                f"{engine.state.epoch}. Saved as {self.folder.kept[-1]}; --resume true goes on from there."
            )
        engine.terminate(skip_completed=True)

    def _save(self, engine: Engine) -> None:
        processes = gather_plain(process_state(self.metrics))
        for item in self.objects.values():
            # torch's ZeroRedundancyOptimizer: the first process takes the parts of the others
            if hasattr(item, "consolidate_state_dict"):
                item.consolidate_state_dict()
        self._saved_at = engine.state.iteration
        if rank() > 0:
            return
        state = {name: unwrap(item).state_dict() for name, item in self.objects.items()}
        state["trainer"] = {"iteration": engine.state.iteration, "unfinished": self._unfinished}
        state["progress"] = progress_of(engine, self.evaluator, self.best, self.early_stop)
        state["progress"]["planned"] = self._schedule.planned
        state["settings"], state["processes"] = self._settings, processes
        self.folder.write(state, engine.state.iteration)

    def _load(self, engine: Engine, path: Path, state: Mapping[str, Any]) -> None:
        if missing := [key for key in _OWN if not isinstance(state, Mapping) or key not in state]:
            raise CheckpointError(f"{path} is no checkpoint of a training, without {', '.join(missing)}: remove it.")
        check_settings(self._settings, path, state["settings"])
        for name, item in self.objects.items():
            if isinstance(item, torch.optim.Optimizer) and name in state:
                check_optimizer(item, path, state[name])
            # one for other epochs is reported separately
            same = state["progress"].get("planned") == self._schedule.planned
            if isinstance(item, LRScheduler) and name in state and same:
                check_schedule(item, path, state[name])
        # without mixed precision there is none, or an empty one: it starts from its default
        objects = {name: unwrap(item) for name, item in self.objects.items() if name != "scaler" or state.get(name)}
        try:
            Checkpoint.load_objects(objects, state)
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(
                Lines(
                    f"The checkpoint {path} does not fit this network: resume with the options it was made with, or "
                    f"without --resume. {error}"
                )
            ) from error
        restore_progress(state["progress"], engine, self.evaluator, self.best, self.early_stop)
        self._saved_at = go_to(engine, state["trainer"]["iteration"])
        self._schedule.resume(self._saved_at, state["progress"].get("planned"), engine.state)
        own = state["processes"][rank()]
        self._resumed_metrics = own["metrics"]
        if rank() == 0:
            self.logger.info(f"Resumed from {path}: {self._saved_at} iterations are done.")
        restore_random_state(own["random"])
        if state["trainer"]["unfinished"]:
            # stopped between the last iteration of an epoch and the end of its validation
            self._restore_metrics(engine)
            engine.fire_event(Events.EPOCH_COMPLETED)
        elif self._saved_at % engine.state.epoch_length == 0:
            self._resumed_metrics = {}
        stop: Any = None if self.early_stop is None else self.early_stop._handler
        if stop is not None and stop.counter >= stop.patience:
            engine.terminate()

    def _restore_metrics(self, engine: Engine) -> None:
        for name, values in self._resumed_metrics.items():
            for key, value in values.items():
                setattr(self.metrics[name], key, value)
        self._resumed_metrics = {}
