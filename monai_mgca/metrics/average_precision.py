# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Average precision of one class over all images, or over those that a bootstrap draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["PooledPredictions", "average_precision", "pool_predictions"]

_RECALLS = np.linspace(0, 1, 101)


class PooledPredictions(NamedTuple):
    """Predictions of all images.

    Args:
        scores: (D,).
        hits: (IoUs, D), whether each found a box at each overlap.
        images: (D,) index of the image that each is of.
    """

    scores: np.ndarray
    hits: np.ndarray
    images: np.ndarray

    def drawn(self, times: np.ndarray) -> PooledPredictions:
        """Those of a resampling.

        Args:
            times: (N,), how often each image was drawn.
        """
        index = np.repeat(np.arange(len(self.scores)), times[self.images])
        return PooledPredictions(self.scores[index], self.hits[:, index], self.images[index])


def pool_predictions(
    matches: Sequence[Mapping[int, Mapping[str, np.ndarray]]], label: int, num_ious: int
) -> PooledPredictions:
    """The predictions of a class over all images, those of the highest scores first.

    Args:
        matches: of each image, as MONAI's ``matching_batch`` gives them.
        label: of the class.
        num_ious: overlaps of the matching.
    """
    there = [(i, match[label]) for i, match in enumerate(matches) if label in match]
    scores = np.concatenate([np.zeros(0), *(match["dtScores"] for _, match in there)])
    hits = np.concatenate([np.zeros((num_ious, 0)), *(match["dtMatches"] for _, match in there)], axis=1) > 0
    images = np.repeat([i for i, _ in there], [len(match["dtScores"]) for _, match in there]).astype(int)
    order = np.argsort(-scores, kind="stable")
    return PooledPredictions(scores[order], hits[:, order], images[order])


def average_precision(hits: np.ndarray, num_true: int) -> np.ndarray:
    """COCO's: for each IoU, the mean over 101 recalls of the best precision at this recall or a higher one.

    Args:
        hits: (IoUs, D), whether each prediction found a box, those of the highest scores first.
        num_true: boxes there are, at least one.

    Returns:
        (IoUs,).

    Example::

        print(average_precision(np.array([[True, False, True]]), num_true=2))  # [0.83...]
    """
    right = hits.cumsum(axis=1)
    precision = right / np.arange(1, hits.shape[1] + 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.concatenate((best, np.zeros((len(hits), 1))), axis=1)  # recalls that are never reached
    reached = [np.searchsorted(row / num_true, _RECALLS, side="left") for row in right]
    return np.array([row[index].mean() for row, index in zip(best, reached, strict=True)])
