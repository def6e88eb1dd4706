# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Publishes the segmentation metrics of a validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from ignite.metrics.metric import reinit__is_reduced
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import CumulativeIterationMetric, HausdorffDistanceMetric, SurfaceDiceMetric, SurfaceDistanceMetric
from monai.utils import CommonKeys

from monai_mgca.handlers.log_metrics import publish_figures
from monai_mgca.metrics.bootstrap import mean_with_interval

__all__ = ["SegmentationHandler"]

# those that take the spacing of pixels
DISTANCES = (HausdorffDistanceMetric, SurfaceDiceMetric, SurfaceDistanceMetric)


class SegmentationHandler(IgniteMetricHandler):
    """A metric of MONAI on masks, nan where it is defined for none: the Dice of empty masks, distances to nothing.

    MONAI's own handlers leave out what is undefined as well, and give 0 where nothing is left: of a distance the best
    value there is. How many masks of how many were left out stands in ``engine.state.undefined`` under the metric's
    name, for :class:`RunSummary`. Distances are in pixels of a radiograph, and in millimeters of a volume, by the
    spacing of the truth's own voxels.

    Args:
        metric_fn: of ``monai.metrics``, such as ``DiceMetric``, whose values of images and classes are nan where they
            are undefined.
        keys: of the prediction and the truth in the engine's output.
        bootstrap: replicates of the images for the metric's 95 % interval, which stands in ``engine.state.metrics``
            under its name with "_low" and "_high"; 0 gives none.
        seed: of the bootstrap.

    Example::

        key_metric = {"val_mean_dice": SegmentationHandler(DiceMetric())}
        evaluator = SupervisedEvaluator(..., key_val_metric=key_metric)
    """

    def __init__(
        self,
        metric_fn: CumulativeIterationMetric,
        keys: Sequence[str] = (CommonKeys.PRED, CommonKeys.LABEL),
        bootstrap: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(metric_fn=metric_fn, output_transform=from_engine(list(keys)), save_details=True)
        self.bootstrap, self.seed = bootstrap, seed

    @reinit__is_reduced
    def update(self, output: Sequence[Any]) -> None:
        """
        Args:
            output: predictions and truths, each a list of (C, H, W) or (C, X, Y, Z).
        """
        predictions, truths = output
        if not isinstance(self.metric_fn, DISTANCES) or truths[0].ndim != 4:
            super().update(output)
            return
        for prediction, truth in zip(predictions, truths, strict=True):
            self.metric_fn([prediction], [truth], spacing=truth.pixdim.tolist())

    def compute(self) -> Any:
        value = super().compute()
        values = torch.as_tensor(self.metric_fn.get_buffer())
        undefined = ~torch.isfinite(values)
        if self._engine is not None:
            state: Any = self._engine.state
            counts = getattr(state, "undefined", {})
            state.undefined = {**counts, self._name: (int(undefined.sum()), undefined.numel())}
            if self.bootstrap:
                name = str(self._name)
                of_images = values.masked_fill(undefined, torch.nan).double().nanmean(1).cpu().numpy()
                figures = mean_with_interval(of_images, name, self.bootstrap, self.seed)
                publish_figures(self._engine, figures, name, prefix="")
        return torch.nan if undefined.all() else value
