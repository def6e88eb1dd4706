# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Publishes the detection metric of a validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.handlers import IgniteMetricHandler, from_engine
from monai.utils import CommonKeys, look_up_option

from monai_mgca.handlers.log_metrics import publish_figures
from monai_mgca.metrics.detection import DetectionMetric, map_names

__all__ = ["DetectionHandler"]


class DetectionHandler(IgniteMetricHandler):
    """Mean average precision and FROC of a detector's validation set.

    All figures of :class:`monai_mgca.metrics.DetectionMetric` stand beside the metric's own value in
    ``engine.state.metrics``. The engine must not decollate, see :class:`monai_mgca.engines.PrepareBatchBoxes`.

    Args:
        classes: names of the classes.
        key: the figure that is the metric's own value: "map_50" by default, "map_40_75", "map_50_95" or "froc"; of
            volumes "map_30" by default, "map_10", "map_50", "map_10_50" or "froc".
        prefix: put before the names of the other figures.
        max_detections: of a class in an image, the boxes of the highest scores that count.
        spatial_dims: 2, or 3 for boxes of volumes.
        bootstrap: replicates of the confidence intervals; 0 gives none.
        seed: of the bootstrap.

    Example::

        key_metric = {"val_map_50": DetectionHandler(["lung", "heart"])}
        evaluator = SupervisedEvaluator(..., key_val_metric=key_metric, decollate=False)
    """

    def __init__(
        self,
        classes: Sequence[str],
        key: str | None = None,
        prefix: str = "val_",
        max_detections: int = 100,
        spatial_dims: int = 2,
        bootstrap: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            metric_fn=DetectionMetric(classes, max_detections, spatial_dims, bootstrap, seed),
            output_transform=from_engine([CommonKeys.PRED, CommonKeys.LABEL]),
            save_details=False,
        )
        names = map_names(spatial_dims)
        self.key: str = look_up_option(key or names[0], (*names, "froc"))
        self.prefix = prefix

    def compute(self) -> Any:
        return publish_figures(self._engine, self.metric_fn.aggregate(), self.key, self.prefix)
