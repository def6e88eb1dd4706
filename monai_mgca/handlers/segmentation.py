# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Publishes the segmentation metrics of a validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import CumulativeIterationMetric
from monai.utils import CommonKeys

__all__ = ["SegmentationHandler"]


class SegmentationHandler(IgniteMetricHandler):
    """A metric of MONAI on masks, nan where it is defined for none: the Dice of empty masks, distances to nothing.

    MONAI's own handlers leave out what is undefined as well, and give 0 where nothing is left: of a distance the best
    value there is. How many masks of how many were left out stands in ``engine.state.undefined`` under the metric's
    name, for :class:`RunSummary`.

    Args:
        metric_fn: of ``monai.metrics``, such as ``DiceMetric``, whose values of images and classes are nan where they
            are undefined.
        keys: of the prediction and the truth in the engine's output.

    Example::

        key_metric = {"val_mean_dice": SegmentationHandler(DiceMetric())}
        evaluator = SupervisedEvaluator(..., key_val_metric=key_metric)
    """

    def __init__(
        self, metric_fn: CumulativeIterationMetric, keys: Sequence[str] = (CommonKeys.PRED, CommonKeys.LABEL)
    ) -> None:
        super().__init__(metric_fn=metric_fn, output_transform=from_engine(list(keys)), save_details=True)

    def compute(self) -> Any:
        value = super().compute()
        undefined = ~torch.isfinite(torch.as_tensor(self.metric_fn.get_buffer()))
        if self._engine is not None:
            state: Any = self._engine.state
            counts = getattr(state, "undefined", {})
            state.undefined = {**counts, self._name: (int(undefined.sum()), undefined.numel())}
        return torch.nan if undefined.all() else value
