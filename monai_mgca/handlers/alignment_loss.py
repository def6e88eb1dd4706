# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Logs the terms of the alignment loss, and validates by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce
from monai.utils import CommonKeys

from monai_mgca.handlers.whole_batch import output_of
from monai_mgca.losses.mgca_loss import MGCALoss

__all__ = ["AlignmentLossHandler", "loss_terms"]


class AlignmentLossHandler(Metric):
    """The loss and its terms, averaged over the samples of an epoch.

    The metric's own value is the total; the terms stand beside it in ``engine.state.metrics``. A trainer has computed
    the loss already; for an evaluator it is computed here.

    Args:
        loss: the loss of the training.
        prefix: put before the names of the terms.

    Example::

        SupervisedEvaluator(..., additional_metrics={"val_loss": AlignmentLossHandler(loss)}, decollate=False)
    """

    _state_dict_all_req_keys = ("_sum", "_count", "_names")

    def __init__(self, loss: MGCALoss, prefix: str = "val_") -> None:
        self.loss = loss
        self.prefix = prefix
        self._engine: Any = None
        super().__init__(output_transform=_prediction_and_loss)

    def attach(self, engine: Any, name: str, *args: Any, **kwargs: Any) -> None:
        """Attach to the engine; the loss is stored under ``name``."""
        self._engine = engine
        super().attach(engine, name, *args, **kwargs)

    @reinit__is_reduced
    def reset(self) -> None:
        """Start a new epoch."""
        self._sum = torch.zeros(())
        self._count = 0
        self._names: tuple[str, ...] = ()

    @reinit__is_reduced
    def update(self, output: Sequence[Any]) -> None:
        """
        Args:
            output: what :class:`monai_mgca.networks.MGCA` returns, and the loss where the engine has computed it.
        """
        pred, total = output
        with torch.no_grad():
            total = self._evaluate(pred) if total is None else total.detach()
            self._names = ("loss", *self.loss.terms)
            values = torch.stack([total, *self.loss.terms.values()]).float()
        size = len(next(iter(pred.values())))
        self._sum = self._sum.to(values.device) + size * values
        self._count += size

    def _evaluate(self, pred: Any) -> torch.Tensor:
        training = self.loss.training
        # processes need not have as many batches to validate: none may wait for the samples of the others
        self.loss.eval()
        total: torch.Tensor = self.loss(pred)
        self.loss.train(training)
        return total

    @sync_all_reduce("_sum", "_count")
    def compute(self) -> float:
        """The mean loss; the terms' means go into the engine's state."""
        if self._count == 0:
            raise NotComputableError("AlignmentLossHandler has seen no batch.")
        total, *terms = (self._sum / self._count).tolist()
        named = {f"{self.prefix}{name}_loss": value for name, value in zip(self._names[1:], terms, strict=True)}
        self._engine.state.metrics.update(named)
        return float(total)


def _prediction_and_loss(output: Any) -> tuple[Any, Any]:
    item = output_of(output)
    return item[CommonKeys.PRED], item.get(CommonKeys.LOSS)


def loss_terms(loss: MGCALoss, optimizer: torch.optim.Optimizer) -> Callable[[Any], dict[str, Any]]:
    """An output transform for MONAI's ``TensorBoardStatsHandler``: the loss, its terms by name, the learning rate.

    Args:
        loss: the loss of the trainer, whose last terms are reported.
        optimizer: of the trainer.

    Example::

        TensorBoardStatsHandler(log_dir="eval", output_transform=loss_terms(loss, optimizer))
    """

    def transform(output: Any) -> dict[str, Any]:
        named = {f"{name}_loss": value for name, value in loss.terms.items()}
        return {"loss": output_of(output)[CommonKeys.LOSS], **named, "learning_rate": optimizer.param_groups[0]["lr"]}

    return transform
