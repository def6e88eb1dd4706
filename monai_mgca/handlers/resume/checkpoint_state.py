# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What a checkpoint holds besides tensors, and whether it fits the training that resumes."""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.metrics import Metric
from monai.data import MetaTensor
from monai.handlers import CheckpointSaver, EarlyStopHandler
from monai.utils import CommonKeys
from torch.optim.lr_scheduler import LRScheduler

from monai_mgca.utils.dist import rank, world_size
from monai_mgca.utils.errors import CheckpointError
from monai_mgca.utils.random_state import random_state

__all__ = [
    "check_optimizer",
    "check_schedule",
    "check_settings",
    "go_to",
    "process_state",
    "progress_of",
    "restore_progress",
    "settings_of",
]


logger = logging.getLogger(__name__)

OPTIONS = "options"
# options by which a training does the same elsewhere, or that it obeys at any time; the data are compared by themselves
FREE = {
    *(
        "_desc_",
        "bundle_root",
        "dataset_dir",
        "data_dir",
        "data_list_file_path",
        "ckpt_dir",
        "output_dir",
        "log_file",
        "cache_dir",
        "cache",
    ),
    *(
        "use_sample",
        "sample_size",
        "sample_image_size",
        "pretrained",
        "num_workers",
        "dist_backend",
        "resume",
        "compile",
    ),
    *("channels_last", "checkpointing", "micro_batch_size", "max_non_finite_steps", "checkpoint_interval"),
    *("val_interval", "early_stopping_patience", "outlier_images"),
    *("epochs", "total_steps", "warmup_steps"),  # the schedule is reported separately
}
_AS_IT_BEGAN = (
    "A resumed training goes on with what it began with: give that, or start a new training from its weights, "
    "--pretrained_path."
)
_NOT_AGAIN = "a resumed training goes on from the checkpoint, and reads none of it."
REPORTED = {
    "amp": "the rest is computed in another precision.",
    "pretrained_path": _NOT_AGAIN,
    "image_encoder_weights": _NOT_AGAIN,
    "report_encoder": "its words must be the same; its weights are those of the checkpoint.",
}


def _plain(value: Any) -> Any:
    """A value without what weights-only reading refuses: MONAI's tensors with meta data, and NumPy's numbers."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, MetaTensor):
        return value.as_tensor()
    return value.item() if isinstance(value, np.generic) else value


def _hash_names(data: Sequence[Mapping[str, Any]]) -> str:
    """A hash of the images' names in their order, whatever folder they all are in."""
    paths = [str(entry[CommonKeys.IMAGE]) for entry in data]
    begin = len(os.path.commonprefix(paths))  # noqa: RUF071  what is cut away may be a part of a name
    return hashlib.sha256("\n".join(path[begin:] for path in paths).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def settings_of(
    engine: Any, data: Sequence[Mapping[str, Any]] | None = None, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What must be as it was for a training to go on as the same training.

    Args:
        engine: MONAI's trainer.
        data: the training entries, whose images must be the same.
        options: of the config, by name.
    """
    loader: Any = getattr(engine, "data_loader", None)
    return {
        "processes": world_size(),
        "batch_size": getattr(loader, "batch_size", None),
        "accumulation_steps": getattr(engine, "accumulation_steps", 1),
        "training items": len(loader.dataset) if hasattr(loader, "dataset") else None,
        "hash of the images' names": None if data is None else _hash_names(data),
        "iterations in an epoch": engine.state.epoch_length,
        "seed": getattr(getattr(loader, "sampler", None), "seed", None),
        "options": _plain(dict(options or {})),
    }


def check_settings(now: Mapping[str, Any], path: Path, made: Mapping[str, Any]) -> None:
    """
    Args:
        now: the settings of this training.
        path: of the checkpoint.
        made: the settings of the training that wrote it.

    Raises:
        CheckpointError: when one of them is another now.
    """
    pairs = {name: (made.get(name), value) for name, value in now.items() if name != OPTIONS}
    was, asked = made.get(OPTIONS, {}), now.get(OPTIONS, {})
    pairs |= {name: (was[name], asked[name]) for name in asked if name in was and name not in FREE}
    other = {name: f"{name} {was}, now {asked}" for name, (was, asked) in pairs.items() if was != asked}
    reported = [other.pop(name) for name in REPORTED if name in other]
    if other:
        raise CheckpointError(
            f"The checkpoint {path} is of another training: {'; '.join(other.values())}. Resume with the data and "
            "options of that one, or start a new training, in another ckpt_dir, from its weights: --pretrained_path."
        )
    for change in reported if rank() == 0 else ():
        logger.warning(f"The training that wrote {path} had {change}: {REPORTED[change.split()[0]]}")


def check_optimizer(optimizer: torch.optim.Optimizer, path: Path, state: Mapping[str, Any]) -> None:
    """
    Args:
        optimizer: of this training, with its schedule.
        path: of the checkpoint.
        state: of the optimizer that is in it, which is about to take the place of this one's.

    Raises:
        CheckpointError: when this one was made with another weight decay, first learning rate or alike.
    """
    for now, made in zip(optimizer.param_groups, state["param_groups"], strict=False):
        for name in now.keys() & made.keys() - {"params", "lr"}:
            was, asked = (list(v) if isinstance(v, tuple) else v for v in (made[name], now[name]))
            if was != asked:
                raise CheckpointError(
                    f"The checkpoint {path} is of another training: its optimizer has {name} {was}, now {asked}. "
                    f"{_AS_IT_BEGAN}"
                )


def check_schedule(scheduler: LRScheduler, path: Path, state: Mapping[str, Any]) -> None:
    """
    Args:
        scheduler: of this training, planned for as many iterations as that of the checkpoint.
        path: of the checkpoint.
        state: of the scheduler that is in it, which is about to take the place of this one's.

    Raises:
        CheckpointError: when this one was made with other numbers.
    """
    now, arguments = scheduler.state_dict(), inspect.signature(type(scheduler)).parameters
    kept = {*arguments, *(f"_{name}" for name in arguments)} - {"last_epoch", "_schedulers"}
    for name in sorted(kept & now.keys() & state.keys()):
        if (was := _plain(state[name])) != (asked := _plain(now[name])):
            raise CheckpointError(
                f"The checkpoint {path} is of another training: its {type(scheduler).__name__} has {name} {was}, now "
                f"{asked}. {_AS_IT_BEGAN}"
            )
    for part, made in zip(getattr(scheduler, "_schedulers", ()), state.get("_schedulers", ()), strict=False):
        check_schedule(part, path, made)


def process_state(metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """What each process has of its own: the random numbers, and its sums for the epoch's metrics.

    Args:
        metrics: of the trainer, by name.
    """
    sums = {name: {key: getattr(m, key) for key in m._state_dict_all_req_keys} for name, m in metrics.items()}
    return _plain({"random": random_state(), "metrics": sums})


def progress_of(
    engine: Any, evaluator: Any, best: Sequence[CheckpointSaver], early_stop: EarlyStopHandler | None
) -> dict[str, Any]:
    """The best metrics and what depends on them.

    Args:
        engine: MONAI's trainer.
        evaluator: the validation engine or None.
        best: the savers of the best networks.
        early_stop: counts the epochs without improvement.
    """
    checkpoints: list[Any] = [saver._key_metric_checkpoint for saver in best]
    progress: dict[str, Any] = {"savers": [checkpoint.state_dict() for checkpoint in checkpoints]}
    progress["train_metric"] = engine.state.best_metric, engine.state.best_metric_epoch
    if evaluator is not None:
        progress["best_metric"] = evaluator.state.best_metric
        progress["best_metric_epoch"] = evaluator.state.best_metric_epoch
    if early_stop is not None:
        counter: Any = early_stop._handler
        progress["early_stop"] = counter.state_dict()
    return _plain(progress)


def restore_progress(
    progress: Mapping[str, Any],
    engine: Any,
    evaluator: Any,
    best: Sequence[CheckpointSaver],
    early_stop: EarlyStopHandler | None,
) -> None:
    """
    Args:
        progress: of :func:`progress_of`, whose other arguments follow.
        engine: MONAI's trainer.
        evaluator: the validation engine or None.
        best: the savers of the best networks.
        early_stop: counts the epochs without improvement.
    """
    # a saver that forgot the best network would overwrite it with the next one, however bad that is
    for saver, state in zip(best, progress["savers"], strict=True):
        saver.load_state_dict(state)
    engine.state.best_metric, engine.state.best_metric_epoch = progress["train_metric"]
    if evaluator is not None:
        evaluator.state.best_metric = progress["best_metric"]
        evaluator.state.best_metric_epoch = progress["best_metric_epoch"]
    if early_stop is not None and "early_stop" in progress:
        counter: Any = early_stop._handler
        counter.load_state_dict(progress["early_stop"])


def go_to(engine: Any, iteration: int) -> int:
    """Have the trainer begin behind an iteration, and the loader with the batch that comes then.

    Args:
        engine: MONAI's trainer, whose run has just started.
        iteration: how many are done.

    Returns:
        The iteration.
    """
    engine.state.iteration = iteration
    engine.state.epoch, done = divmod(iteration, engine.state.epoch_length)
    sampler: Any = getattr(engine.data_loader, "sampler", None)
    if hasattr(sampler, "start_at"):
        sampler.start_at(done * engine.data_loader.batch_size)
    elif done:
        logging.getLogger(__name__).warning(
            "The data loader cannot begin within an epoch: the rest of this one is trained with other batches. Give it "
            "monai_mgca.data.StreamSampler."
        )
    return iteration
