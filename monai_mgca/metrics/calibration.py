# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Fits what makes frequencies of a finding's probabilities: a temperature, Platt's sigmoid or an isotonic curve."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.metrics import CalibrationErrorMetric
from monai.utils import look_up_option, optional_import
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logit

LogisticRegression, _ = optional_import("sklearn.linear_model", name="LogisticRegression")
IsotonicRegression, _ = optional_import("sklearn.isotonic", name="IsotonicRegression")

__all__ = ["METHODS", "calibration_error", "fit_calibration", "fit_temperature"]

METHODS = ("platt", "temperature", "isotonic")
# of the logarithm of a temperature: beyond, all probabilities are 0.5, or 0 and 1
WIDEST = 7.0
NEAREST = 1e-7  # as monai_mgca.transforms.calibrate


def fit_calibration(probability: np.ndarray, label: np.ndarray, method: str = "platt") -> dict[str, Any]:
    """Fit one finding's calibration: plain numbers for :func:`monai_mgca.transforms.calibrate`.

    - "platt": a line of the logits by scikit-learn's logistic regression, with Platt's targets, which keep it finite
      where the scores part the labels (Platt 1999).
    - "temperature": the logits divided by one number (Guo et al. 2017, https://arxiv.org/abs/1706.04599). It does not
      move 0.5, so it cannot mend scores that are too high for a rare finding.
    - "isotonic": scikit-learn's rising curve of steps and lines (Zadrozny and Elkan 2002), for hundreds of images.

    Args:
        probability: (N,), 0 to 1.
        label: (N,) of 0 and 1, both of them.
        method: one of the three.

    Returns:
        "slope" and "intercept", "temperature", or "x" and "y", of equal length.

    Raises:
        ValueError: for an unknown method, labels of one value alone, or scores that do not rise with the finding.

    Example::

        generator = np.random.default_rng(0)
        label = generator.integers(0, 2, 200)
        print(fit_calibration((label + generator.random(200)) / 2, label))  # {'slope': ..., 'intercept': ...}
    """
    method = look_up_option(method, METHODS)
    probability, label = np.asarray(probability, dtype=np.float64), np.asarray(label, dtype=np.float64)
    if len(set(label)) < 2:
        raise ValueError("needs images with the finding and without it.")
    if method == "temperature":
        both = np.stack([1 - probability, probability], axis=1)
        return {"temperature": fit_temperature(both, label.astype(int))}
    if method == "platt":
        return _fit_platt(probability, label)
    curve = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(probability, label)
    if len(curve.X_thresholds_) < 2 or curve.y_thresholds_[0] == curve.y_thresholds_[-1]:
        raise ValueError("its scores do not rise with the finding.")
    return {"x": curve.X_thresholds_.tolist(), "y": curve.y_thresholds_.tolist()}


def fit_temperature(probabilities: np.ndarray, label: np.ndarray) -> float:
    """The number by which logits are divided for the lowest cross-entropy.

    Args:
        probabilities: (N, C), a row's sum 1.
        label: (N,), the index of the class of each image.

    Raises:
        ValueError: where it has no end: the scores do not rise with the classes, or part them without an error.

    Example::

        confident = np.array([[0.1, 0.9]] * 4)
        print(fit_temperature(confident, np.array([1, 1, 1, 0])))  # 2.0: three of four are 0.75
    """
    logits = np.log(np.clip(probabilities, NEAREST, 1))
    rows = np.arange(len(label))

    def cross_entropy(cold: float) -> float:
        return -float(log_softmax(logits * np.exp(-cold), axis=1)[rows, label].mean())

    found = minimize_scalar(cross_entropy, bounds=(-WIDEST, WIDEST), method="bounded", options={"xatol": 1e-9})
    if found.fun < 1e-6:
        raise ValueError("has no temperature: its scores part the labels without an error.")
    if abs(found.x) > WIDEST - 0.01:
        raise ValueError("has no temperature: its scores do not rise with the finding.")
    return float(np.exp(found.x))


def _fit_platt(probability: np.ndarray, label: np.ndarray) -> dict[str, float]:
    values = logit(np.clip(probability, NEAREST, 1 - NEAREST))[:, None]
    positives, negatives = label.sum(), (1 - label).sum()
    # a label is one with this weight, and the other with the rest
    target = np.where(label == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=10_000)
    twice = np.concatenate([np.ones(len(label)), np.zeros(len(label))])
    model.fit(np.concatenate([values, values]), twice, sample_weight=np.concatenate([target, 1 - target]))
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    if slope <= 0:
        raise ValueError("its scores do not rise with the finding.")
    return {"slope": slope, "intercept": intercept}


def calibration_error(probability: np.ndarray, label: np.ndarray, bins: int = 10) -> float:
    """The expected calibration error of one finding, by MONAI's metric.

    Args:
        probability: (N,), 0 to 1.
        label: (N,) of 0 and 1.
        bins: of equal width.

    Example::

        print(calibration_error(np.array([0.9, 0.2, 0.6, 0.4]), np.array([1, 0, 0, 1])))  # 0.375
    """
    metric = CalibrationErrorMetric(num_bins=bins)
    metric(*(torch.as_tensor(values, dtype=torch.float32)[None, None] for values in (probability, label)))
    return float(torch.as_tensor(metric.aggregate()))
