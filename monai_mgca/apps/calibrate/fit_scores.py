# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Fits the calibration of every finding, and measures on patients that a fit has not seen what it is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.utils import optional_import

from monai_mgca.apps.calibrate.scores import Scores
from monai_mgca.metrics import choose_threshold, fit_calibration, fit_temperature, measure_decisions
from monai_mgca.metrics.bootstrap import with_intervals
from monai_mgca.metrics.calibration import calibration_error
from monai_mgca.transforms import calibrate, calibrate_all
from monai_mgca.utils import DataError

StratifiedGroupKFold, _ = optional_import("sklearn.model_selection", name="StratifiedGroupKFold")

__all__ = ["HeldOut", "choose_method", "fit_scores", "measure_held_out", "too_few"]

SPLITS = 5
BOOTSTRAP = 1000


class HeldOut(NamedTuple):
    """What calibrations give images whose patients they have not seen."""

    label: np.ndarray  # (n,), the images whose label is known
    before: np.ndarray  # (n,)
    after: np.ndarray  # (n,)
    present: np.ndarray  # (n,) of bool, the decision
    split: np.ndarray  # (n,), in which of the splits it was held out

    def errors(self) -> tuple[float, float]:
        """The calibration error before and after, each the mean over the splits."""
        parts = [self.split == number for number in range(SPLITS)]
        before, after = (
            float(np.mean([calibration_error(values[part], self.label[part]) for part in parts]))
            for values in (self.before, self.after)
        )
        return before, after

    def decisions(self) -> dict[str, float]:
        """Sensitivity and specificity with their 95 % intervals by bootstrap over the images."""
        return with_intervals(
            lambda weights: measure_decisions(self.present, self.label, weights), len(self.label), BOOTSTRAP
        )


def too_few(scores: Scores, fewest: int) -> dict[str, str]:
    """The findings that cannot be calibrated, and why.

    Args:
        scores: of a section.
        fewest: images with the finding, and without it, that it needs.

    Example::

        scores = Scores(["edema"], np.array([[0.2], [0.7]]), np.array([[0.0], [1.0]]), ["a", "b"])
        print(too_few(scores, 10))  # {'edema': '1 image with it and 1 without, and 10 of each are needed'}
    """
    reasons = {}
    for name, column in zip(scores.classes, scores.labels.T, strict=True):
        present, absent = int((column == 1).sum()), int((column == 0).sum())
        if min(present, absent) < fewest:
            words = f"{present} image{'s' * (present != 1)} with it and {absent} without"
            reasons[name] = f"{words}, and {fewest} of each are needed"
    return reasons


def fit_scores(scores: Scores, column: int, method: str, point: str, rows: np.ndarray | None = None) -> dict[str, Any]:
    """Fit the calibration and the threshold of one finding.

    Args:
        scores: of a section.
        column: of the finding.
        method: as for :func:`monai_mgca.metrics.fit_calibration`; of multiclass scores "temperature".
        point: as for :func:`monai_mgca.metrics.choose_threshold`.
        rows: (N,) of bool, the images to fit on; all whose label is known by default.

    Returns:
        Plain numbers: what :func:`monai_mgca.transforms.calibrate` takes, "threshold", "positives" and "negatives".

    Raises:
        ValueError: when there is nothing to fit.

    Example::

        generator = np.random.default_rng(0)
        label = generator.integers(0, 2, (80, 1)).astype(float)
        scores = Scores(["edema"], (label + generator.random((80, 1))) / 2, label, list(range(80)))
        print(fit_scores(scores, 0, "platt", "youden")["threshold"])
    """
    rows = ~np.isnan(scores.labels[:, column]) if rows is None else rows
    label = scores.labels[rows, column]
    if scores.label_mode == "multiclass":
        classes = scores.labels[rows].argmax(1)
        numbers: dict[str, Any] = {"temperature": fit_temperature(scores.probabilities[rows], classes)}
    else:
        numbers = fit_calibration(scores.probabilities[rows, column], label, method)
    threshold = choose_threshold(_apply(scores, column, numbers, rows), label, point)
    counts = {"positives": int(label.sum()), "negatives": int((1 - label).sum())}
    return {**numbers, "threshold": threshold, **counts, **({"texts": scores.texts[column]} if scores.texts else {})}


def _apply(scores: Scores, column: int, numbers: Mapping[str, Any], rows: np.ndarray) -> np.ndarray:
    if scores.label_mode == "multiclass":
        whole = torch.from_numpy(scores.probabilities[rows])
        values: np.ndarray = calibrate_all(whole, [numbers] * len(scores.classes), exclusive=True)[:, column].numpy()
        return values
    return calibrate(scores.probabilities[rows, column], numbers)


def measure_held_out(scores: Scores, column: int, method: str, point: str) -> HeldOut | None:
    """Fit to four fifths of the patients, apply to the last fifth, five times: every image is held out once.

    Args:
        scores: of a section.
        column: of the finding.
        method: as for :func:`fit_scores`.
        point: as for :func:`fit_scores`.

    Returns:
        None where there are fewer than five patients with the finding or without it, or a fit to a part fails.

    Raises:
        DataError: when scikit-learn cannot split the patients.
    """
    known = np.flatnonzero(~np.isnan(scores.labels[:, column]))
    label = scores.labels[known, column]
    groups = np.unique([str(scores.patients[row]) for row in known], return_inverse=True)[1]
    if min(len(np.unique(groups[label == value])) for value in (0, 1)) < SPLITS:
        return None
    after, present, number = np.zeros(len(known)), np.zeros(len(known), dtype=bool), np.zeros(len(known), dtype=int)
    folds = StratifiedGroupKFold(SPLITS, shuffle=True, random_state=0)
    for split, (seen, held) in enumerate(folds.split(known, label, groups)):
        try:
            numbers = fit_scores(scores, column, method, point, known[seen])
        except ValueError:
            return None
        after[held] = _apply(scores, column, numbers, known[held])
        present[held], number[held] = after[held] >= numbers["threshold"], split
    return HeldOut(label, scores.probabilities[known, column], after, present, number)


def choose_method(scores: Scores, method: str | None) -> str:
    """The method to use.

    Args:
        scores: whose label mode decides where none is given.
        method: as it was given.

    Raises:
        DataError: when it does not suit multiclass scores.
    """
    usual = "temperature" if scores.label_mode == "multiclass" else "platt"
    if scores.label_mode == "multiclass" and method not in (None, usual):
        raise DataError(f"--method {method} is of one class by itself: of multiclass weights take temperature.")
    return method or usual
