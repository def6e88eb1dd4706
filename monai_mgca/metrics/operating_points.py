# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""From which probability on a finding is taken for present: Youden's point, a sensitivity or a specificity."""

from __future__ import annotations

import numpy as np

__all__ = ["choose_threshold", "measure_decisions", "parse_point"]

POINTS = "youden, sensitivity=0.9 or specificity=0.9"


def parse_point(point: str) -> tuple[str, float]:
    """What a text says of an operating point.

    Args:
        point: "youden"; "sensitivity=S" or "specificity=S" with 0 < S <= 1.

    Returns:
        Its name, and S; of Youden's point 0.

    Raises:
        ValueError: for any other text.

    Example::

        print(parse_point("sensitivity=0.95"))  # ('sensitivity', 0.95)
    """
    name, equals, text = point.partition("=")
    if name == "youden" and not equals:
        return name, 0.0
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if name not in ("sensitivity", "specificity") or not 0 < value <= 1:
        raise ValueError(f"An operating point is {POINTS}, more than 0 and at most 1; got {point!r}.")
    return name, value


def choose_threshold(probability: np.ndarray, label: np.ndarray, point: str = "youden") -> float:
    """The threshold of an operating point: this and higher probabilities are taken for the finding.

    Thresholds lie halfway between two neighboring probabilities, so that a rounding changes no decision.

    Args:
        probability: (N,), 0 to 1.
        label: (N,) of 0 and 1, both of them.
        point: "youden", the highest sum of sensitivity and specificity (Youden 1950), of equal ones the more sensitive;
            "sensitivity=S", the highest threshold that finds at least this part of the images with the finding;
            "specificity=S", the lowest that leaves at least this part of the others alone.

    Raises:
        ValueError: as :func:`parse_point`.

    Example::

        print(choose_threshold(np.array([0.1, 0.4, 0.6, 0.9]), np.array([0, 0, 1, 1])))  # 0.5
    """
    name, wanted = parse_point(point)
    values = np.unique(probability)
    # all are present; between two neighbors; none is
    candidates = np.concatenate([[0], (values[1:] + values[:-1]) / 2, [values[-1] + 0.001]])
    positive, negative = (np.sort(probability[label == value]) for value in (1, 0))
    sensitivity = 1 - np.searchsorted(positive, candidates) / len(positive)
    specificity = np.searchsorted(negative, candidates) / len(negative)
    if name == "youden":
        chosen = int(np.argmax(np.round(sensitivity + specificity, 12)))
    elif name == "sensitivity":
        chosen = int(np.flatnonzero(sensitivity >= wanted - 1e-12)[-1])
    else:
        chosen = int(np.flatnonzero(specificity >= wanted - 1e-12)[0])
    return float(candidates[chosen])


def measure_decisions(present: np.ndarray, label: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Sensitivity and specificity of decisions for many weightings of the same images.

    Args:
        present: (N,) of bool, what was taken for the finding.
        label: (N,) of 0 and 1.
        weights: (R, N), not negative; all ones give the plain values.

    Returns:
        "sensitivity" and "specificity", (R,), nan where a weighting has no image of that kind.

    Example::

        print(measure_decisions(np.array([True, False]), np.array([1, 1]), np.ones((1, 2)))["sensitivity"])  # [0.5]
    """
    right = present == (label == 1)
    with np.errstate(invalid="ignore"):
        return {
            name: weights @ (right & (label == value)) / (weights @ (label == value))
            for name, value in (("sensitivity", 1), ("specificity", 0))
        }
