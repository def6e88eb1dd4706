# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Publishes the classification metric of a validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.handlers import IgniteMetricHandler, from_engine
from monai.utils import CommonKeys, look_up_option

from monai_mgca.handlers.log_metrics import publish_figures
from monai_mgca.metrics.classification import ClassificationMetric

__all__ = ["ClassificationHandler"]


class ClassificationHandler(IgniteMetricHandler):
    """AUROC and average precision of a classifier's validation set.

    All figures of :class:`monai_mgca.metrics.ClassificationMetric` stand beside the metric's own value in
    ``engine.state.metrics``.

    Args:
        classes: names of the classes.
        mode: "multilabel" or "multiclass".
        bootstrap: replicates of the confidence intervals; 0 gives none.
        key: the figure that is the metric's own value: "mean_auroc", "mean_ap" or, for multiclass, "accuracy".
        prefix: put before the names of the other figures.
        seed: of the bootstrap.

    Raises:
        ValueError: for an unknown key.

    Example::

        key_metric = {"val_mean_auroc": ClassificationHandler(["edema", "effusion"])}
        evaluator = SupervisedEvaluator(..., key_val_metric=key_metric)
    """

    def __init__(
        self,
        classes: Sequence[str],
        mode: str = "multilabel",
        bootstrap: int = 0,
        key: str = "mean_auroc",
        prefix: str = "val_",
        seed: int = 0,
    ) -> None:
        super().__init__(
            metric_fn=ClassificationMetric(classes, mode, bootstrap, seed),
            output_transform=from_engine([CommonKeys.PRED, CommonKeys.LABEL]),
            save_details=False,
        )
        self.key: str = look_up_option(key, ("mean_auroc", "mean_ap", *(("accuracy",) if mode == "multiclass" else ())))
        self.prefix = prefix

    def compute(self) -> Any:
        return publish_figures(self._engine, self.metric_fn.aggregate(), self.key, self.prefix)
