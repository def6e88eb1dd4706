# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Publishes the retrieval metric of a validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.handlers import IgniteMetricHandler
from monai.metrics import EmbeddingCollapseMetric
from monai.utils import CommonKeys

from monai_mgca.handlers.log_metrics import publish_figures
from monai_mgca.metrics.retrieval import RetrievalMetric
from monai_mgca.utils.enums import MGCAKeys

__all__ = ["RetrievalHandler"]


class RetrievalHandler(IgniteMetricHandler):
    """Retrieval figures and collapse indicators of the embeddings of a validation set.

    The metric's own value is the mean recall; all figures of :class:`monai_mgca.metrics.RetrievalMetric` and the
    effective-rank scores of MONAI's ``EmbeddingCollapseMetric`` (0 spread over all dimensions, 1 collapsed) stand
    beside it in ``engine.state.metrics``.

    Args:
        ks: the ranks at which recall is measured.
        prefix: put before the names of the figures.

    Example::

        evaluator = SupervisedEvaluator(..., key_val_metric={"val_mean_recall": RetrievalHandler()}, decollate=False)
    """

    def __init__(self, ks: Sequence[int] = (1, 5, 10), prefix: str = "val_") -> None:
        super().__init__(
            metric_fn=RetrievalMetric(ks),
            output_transform=lambda output: (output[CommonKeys.PRED], output[CommonKeys.LABEL]),
            save_details=False,
        )
        self.prefix = prefix
        self.collapse = EmbeddingCollapseMetric(include_indicators=["effective_rank"])

    def update(self, output: Sequence[Any]) -> None:
        """
        Args:
            output: what :class:`monai_mgca.networks.MGCA` returns, and the reports' token ids (B, L), which
                :class:`monai_mgca.engines.PrepareBatchReport` makes the label.
        """
        pred, tokens = output
        self.metric_fn(
            pred[MGCAKeys.IMAGE_EMBEDDING].float(), pred[MGCAKeys.REPORT_EMBEDDING].float(), report_tokens=tokens
        )

    def compute(self) -> float:
        figures: dict[str, float] = self.metric_fn.aggregate()
        images, reports, _ = self.metric_fn.get_buffer()
        for name, embeddings in (("image", images), ("report", reports)):
            if len(embeddings) > 1:
                finite = bool(embeddings.isfinite().all())  # or MONAI's metric raises an error
                score = self.collapse(embeddings)["effective_rank_score"] if finite else torch.nan
                figures[f"{name}_collapse"] = float(torch.as_tensor(score))
        return publish_figures(self._engine, figures, "mean_recall", self.prefix)
