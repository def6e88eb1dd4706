# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""AUROC, average precision and accuracy of several labels, of which some are unknown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics import CumulativeIterationMetric
from monai.utils import look_up_option

from monai_mgca.metrics.bootstrap import weighted_auroc_and_ap, with_intervals

__all__ = ["ClassificationMetric", "compute_classification"]

MODES = ("multilabel", "multiclass")


class ClassificationMetric(CumulativeIterationMetric):
    """AUROC and average precision of each class and their means, with bootstrap confidence intervals.

    Unknown labels are left out, class by class. A class whose known labels are all the same has nan, and is no part of
    the means. What every process has seen is gathered. MONAI's ``ROCAUCMetric`` and ``AveragePrecisionMetric`` know
    neither unknown labels nor weights, and take a Python step for each image.

    Args:
        classes: names of the classes.
        mode: "multilabel", or "multiclass" with one class an image, which has the accuracy besides.
        bootstrap: number of replicates; 0 gives no intervals.
        seed: of the bootstrap.

    Example::

        metric = ClassificationMetric(["edema", "effusion"])
        metric(torch.tensor([[0.9, 0.2], [0.1, 0.7]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        print(metric.aggregate()["mean_auroc"])  # 1.0
    """

    def __init__(self, classes: Sequence[str], mode: str = "multilabel", bootstrap: int = 0, seed: int = 0) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.mode: str = look_up_option(mode, MODES)
        self.bootstrap = bootstrap
        self.seed = seed

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None) -> list[torch.Tensor]:  # type: ignore[override]
        """
        Args:
            y_pred: (B, C) scores, probabilities or logits.
            y: (B, C) labels of 0 and 1, NaN where unknown.

        Raises:
            ValueError: when they are not both (B, C).
        """
        wanted = (y_pred.shape[0], len(self.classes))
        if y is None or y_pred.shape != wanted or y.shape != wanted:
            got = None if y is None else tuple(y.shape)
            raise ValueError(
                f"Scores and labels must both be (B, {len(self.classes)}), got {tuple(y_pred.shape)}, {got}."
            )
        return [y_pred, y]

    def aggregate(self) -> dict[str, float]:
        """
        Returns:
            "mean_auroc", "mean_ap", "auroc_CLASS" and "ap_CLASS" (blanks of a name as underscores), for multiclass
            "accuracy"; with a bootstrap each name also with "_low" and "_high", the 2.5 and 97.5 percentiles over the
            replicates.

        Raises:
            ValueError: when the metric has seen no data.
        """
        buffer = self.get_buffer()
        if buffer is None:
            raise ValueError("The metric has seen no data: call it before aggregate().")
        return self._measure(*(tensor.cpu().double().numpy() for tensor in buffer))

    def _measure(self, scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        return compute_classification(scores, labels, self.classes, self.mode, self.bootstrap, self.seed)


def compute_classification(
    scores: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    mode: str = "multilabel",
    bootstrap: int = 0,
    seed: int = 0,
) -> dict[str, float]:
    """The figures of :class:`ClassificationMetric` for a whole set.

    The bootstrap draws images with replacement (Efron 1979). A replicate that has only one value of a class is left
    out of this class's interval and of the means'.

    Args:
        scores: (N, C).
        labels: (N, C) of 0 and 1, nan where unknown.
        classes: C names.
        mode: "multilabel" or "multiclass".
        bootstrap: number of replicates.
        seed: of the bootstrap.

    Raises:
        ValueError: when a score is not a number.

    Example::

        labels = np.array([[1.0], [0], [0], [1]])
        print(compute_classification(np.array([[0.9], [0.2], [0.6], [0.4]]), labels, ["edema"])["mean_auroc"])  # 0.75
    """
    if np.isnan(scores).any():
        raise ValueError("There are scores that are not numbers: the network has diverged, try a lower learning rate.")
    # an order of their own, so that the draws are the same however many processes saw the images
    order = np.lexsort(np.concatenate((labels, scores), axis=1).T)
    scores, labels = scores[order], labels[order]
    return with_intervals(
        lambda weights: _figures(scores, labels, weights, classes, mode), len(scores), bootstrap, seed
    )


def _figures(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray, classes: Sequence[str], mode: str
) -> dict[str, np.ndarray]:
    """Each figure for each weighting (R, N) of the images."""
    known = ~np.isnan(labels)
    columns = [
        weighted_auroc_and_ap(scores[rows, i], labels[rows, i], weights[:, rows]) for i, rows in enumerate(known.T)
    ]
    there = [len(np.unique(labels[rows, i])) > 1 for i, rows in enumerate(known.T)]
    figures = {}
    for kind, values in zip(("auroc", "ap"), np.moveaxis(np.array(columns), 1, 0), strict=True):
        some = values[there]
        figures[f"mean_{kind}"] = some.mean(0) if len(some) else np.full(len(weights), np.nan)
        figures |= {f"{kind}_{name.replace(' ', '_')}": row for name, row in zip(classes, values, strict=True)}
    if mode == "multiclass":
        right = scores.argmax(1) == labels.argmax(1)
        figures["accuracy"] = (weights * right).sum(1) / weights.sum(1)
    return figures
