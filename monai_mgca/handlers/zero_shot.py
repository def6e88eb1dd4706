# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Publishes the zero-shot metric of a validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai.handlers import IgniteMetricHandler, from_engine
from monai.utils import CommonKeys

from monai_mgca.handlers.log_metrics import publish_figures
from monai_mgca.metrics.zero_shot import ZeroShotMetric

__all__ = ["ZeroShotHandler"]


class ZeroShotHandler(IgniteMetricHandler):
    """Mean AUROC of a zero-shot classifier.

    All figures of :class:`monai_mgca.metrics.ZeroShotMetric` stand beside it in ``engine.state.metrics``.

    Args:
        classes: names of the findings.
        bootstrap: replicates of the confidence intervals; 0 gives none.
        prefix: put before the names of the other figures.
        seed: of the bootstrap.
        thresholds: of the balanced accuracy, see :class:`monai_mgca.metrics.ZeroShotMetric`.

    Example::

        key_metric = {"val_mean_auroc": ZeroShotHandler(["edema", "effusion"], bootstrap=1000)}
        evaluator = SupervisedEvaluator(..., key_val_metric=key_metric)
    """

    def __init__(
        self,
        classes: Sequence[str],
        bootstrap: int = 0,
        prefix: str = "val_",
        seed: int = 0,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(
            metric_fn=ZeroShotMetric(classes, bootstrap, seed, thresholds),
            output_transform=from_engine([CommonKeys.PRED, CommonKeys.LABEL]),
            save_details=False,
        )
        self.prefix = prefix

    def compute(self) -> Any:
        return publish_figures(self._engine, self.metric_fn.aggregate(), "mean_auroc", self.prefix)
