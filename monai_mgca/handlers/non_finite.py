# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Skips training steps whose loss or gradient is not finite, and names the images."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.engines import IterationEvents
from monai.utils import CommonKeys

from monai_mgca.handlers.whole_batch import output_of
from monai_mgca.utils.dist import all_gather_with_grad, rank, world_size
from monai_mgca.utils.errors import DataError
from monai_mgca.utils.files import parse_json, remove_unfinished, write_settings

__all__ = ["SkipNonFiniteSteps"]


class SkipNonFiniteSteps:
    """Skips a step of the optimizer whose loss or gradient is not finite, and lists the images of its batch.

    Nothing of the step remains: not in the weights, the optimizer, or the running statistics of batch norm. With
    accumulated gradients the whole step is skipped, and the batches of it that are at fault are listed. With a
    gradient scaler only the loss counts while its scale is above 1: an overflow of such gradients is its own business.

    The list is a JSON object of image paths and how often each was in a batch at fault, most often first: an image
    that is itself at fault soon stands above those that were beside it by chance. It is added to by later runs. Of
    several processes, those list their batches whose own loss is not finite, or all if only the gradient is not.

    A fused optimizer skips without waiting for the device; for another one the step waits for the flag.

    Args:
        data: the training entries, to which "index" in a batch leads.
        path: of the list; the file is written when there is something to list.
        max_in_a_row: so many skipped steps without a good one between them end the training.

    Raises:
        FloatingPointError: when ``max_in_a_row`` steps were skipped in a row.
        DataError: when there is a file of this name that is no such list.
        ValueError: when ``max_in_a_row`` is below 1, or a batch at fault has no "index".

    Example::

        SkipNonFiniteSteps(entries, "eval/quarantine.json").attach(trainer)
    """

    def __init__(self, data: Sequence[Mapping[str, Any]], path: str | os.PathLike, max_in_a_row: int = 10) -> None:
        if max_in_a_row < 1:
            raise ValueError(f"max_in_a_row must be at least 1, got {max_in_a_row}.")
        self.data = data
        self.path = Path(path)
        self.max_in_a_row = max_in_a_row
        self.logger = logging.getLogger(__name__)

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: MONAI's trainer.
        """
        self.steps = self.skipped = self.in_a_row = 0
        self.listed: Counter[str] = Counter()
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._remember)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._judge)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._count)
        engine.add_event_handler(Events.COMPLETED, self._report)

    def _start(self, engine: Any) -> None:
        if rank() == 0:
            remove_unfinished(self.path.parent, self.path.name)
        self.listed = Counter(read_quarantine(self.path))
        self.bad = torch.zeros((), dtype=torch.bool, device=engine.state.device)

    def _remember(self, engine: Any) -> None:
        self.buffers = list(engine.network.buffers())
        self.copies = [buffer.clone() for buffer in self.buffers]

    @torch.no_grad()
    def _judge(self, engine: Any) -> None:
        """Find out on the device, without waiting for it, and let the optimizer know."""
        parameters = (p for group in engine.optimizer.param_groups for p in group["params"])
        gradients = [p.grad for p in parameters if p.grad is not None]
        own = ~output_of(engine.state.output)[CommonKeys.LOSS].detach().isfinite()
        by_loss = _any_process(own)
        before = self.bad & (not _part_of_step(engine)[0])
        norm = torch.nn.utils.get_total_norm(gradients)
        # the gradient of an earlier batch of the same step stays bad
        by_gradient = ~norm.isfinite() & ~before
        if _is_scaled(engine):
            by_gradient &= engine.scaler.scale(torch.ones_like(norm)) <= 1
        fault = by_loss | by_gradient
        self.bad = before | fault
        self.flags = torch.stack([fault, own | (fault & ~by_loss), self.bad])
        for buffer, copy in zip(self.buffers, self.copies, strict=True):
            buffer.copy_(torch.where(fault, copy, buffer))
        if _part_of_step(engine)[1]:
            self._skip(engine, gradients)

    def _skip(self, engine: Any, gradients: list[torch.Tensor]) -> None:
        # torch's ZeroRedundancyOptimizer has the one that makes the steps within
        optimizer: Any = getattr(engine.optimizer, "optim", engine.optimizer)
        if _is_scaled(engine):
            # it looks for gradients that are not finite, and then makes no step
            gradients[0].masked_fill_(self.bad, float("nan"))
        elif getattr(optimizer, "_step_supports_amp_scaling", False):
            optimizer.found_inf = self.bad.float()
        elif self.bad:
            engine.optimizer.zero_grad(set_to_none=True)

    def _count(self, engine: Any) -> None:
        fault, own, bad = self.flags.tolist()
        if fault:
            self._list(engine, own)
        if not _part_of_step(engine)[1]:
            return
        self.steps += 1
        if not bad:
            self.in_a_row = 0
            return
        self.skipped += 1
        self.in_a_row += 1
        engine.state.metrics["skipped_steps"] = self.skipped
        if self.in_a_row == self.max_in_a_row:
            raise FloatingPointError(self._reason(engine) if rank() == 0 else "see the first process, which says why")

    def _reason(self, engine: Engine) -> str:
        return (
            f"loss or gradient were not finite in {self.in_a_row} steps in a row, up to iteration "
            f"{engine.state.iteration}. None of them changed the network. The images of these batches are listed in "
            f"{self.path}. If there are many, the cause is the training: lower learning_rate, lengthen warmup, or set "
            "amp to false. If they are always the same, look at these images; to leave them out: python -m "
            f"monai_mgca.data check DATALIST --exclude {self.path} --write-clean FILE"
        )

    def _list(self, engine: Any, own: bool) -> None:
        """All processes know the flag, so all are here: the first one writes for all."""
        mine = _indices(engine.state.batch) if own else torch.zeros(0, dtype=torch.int64)
        indices = all_gather_with_grad(mine.to(engine.state.device)).tolist()
        if rank() > 0:
            return
        self.listed.update(str(self.data[index][CommonKeys.IMAGE]) for index in indices)
        write_settings(self.path, dict(self.listed.most_common()))
        self.logger.warning(
            f"Iteration {engine.state.iteration} of epoch {engine.state.epoch}: loss or gradient are not finite, the "
            f"step is skipped; its {len(indices)} images are listed in {self.path}."
        )

    def _report(self, engine: Any) -> None:
        if self.skipped and rank() == 0:
            self.logger.warning(
                f"{self.skipped} of {self.steps} steps were skipped, because loss or gradient were not "
                f"finite: {self.path} lists the images, those most often at fault first."
            )


def read_quarantine(path: str | os.PathLike) -> dict[str, int]:
    """Read the list that :class:`SkipNonFiniteSteps` wrote.

    Args:
        path: of the JSON file.

    Returns:
        Image paths and how often each was in a batch at fault; none where there is no file.

    Raises:
        DataError: when the file is no such list.
    """
    path = Path(path)
    if not path.exists():
        return {}
    try:
        listed: dict[str, int] = parse_json(path.read_text(encoding="utf-8"))
        if all(isinstance(count, int) for count in listed.values()):
            return listed
    except (ValueError, AttributeError):
        pass
    raise DataError(f"{path} is not a list of images and counts, as a training writes it: move it away.")


def _any_process(flag: torch.Tensor) -> torch.Tensor:
    """Whether the flag is up in any process."""
    if world_size() == 1:
        return flag
    number = flag.float()
    dist.all_reduce(number, dist.ReduceOp.MAX)
    return number > 0


def _is_scaled(engine: Any) -> bool:
    """Whether the gradients are scaled; on the CPU MONAI's trainer has a scaler that does nothing."""
    return engine.scaler is not None and engine.scaler.is_enabled()


def _part_of_step(engine: Any) -> tuple[bool, bool]:
    """Whether the iteration is the first and the last of a step of the optimizer, as MONAI's trainer counts them."""
    place, parts = (engine.state.iteration - 1) % engine.state.epoch_length, engine.accumulation_steps
    return place % parts == 0, (place + 1) % parts == 0 or place + 1 == engine.state.epoch_length


def _indices(batch: Any) -> torch.Tensor:
    """The places of a batch's items in the training data; a batch of a detector is not collated."""
    items = [batch] if isinstance(batch, Mapping) else batch
    if any("index" not in item for item in items):
        raise ValueError("The batch has no 'index': give the data loader the items of monai_mgca.data's stream.")
    return torch.cat([torch.as_tensor(item["index"]).reshape(-1) for item in items])
