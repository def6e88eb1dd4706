# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Free-response ROC: how many boxes are found where there are so many false ones an image."""

from __future__ import annotations

import numpy as np
from monai.metrics import compute_froc_score

__all__ = ["FROC_RATES", "center_hits", "compute_froc"]

FROC_RATES = {"1_8": 1 / 8, "1_4": 1 / 4, "1_2": 1 / 2, "1": 1, "2": 2, "4": 4, "8": 8}


def center_hits(found: np.ndarray, true: np.ndarray, max_detections: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """The predictions of one volume that count by LUNA16's rule (Setio et al. 2017).

    A prediction whose center is within the ellipsoid that fits into a box of its class has found it. Of a box that is
    found there is one entry, of the highest score; a prediction within none is a false one.

    Args:
        found: (D, 8) rows of label, score, x0, y0, z0, x1, y1, z1.
        true: (M, 8) rows of the same; their scores are not looked at.
        max_detections: of a class, those of the highest scores that count.

    Returns:
        Scores (E,) and whether each found a box (E,).

    Example::

        box = [0, 0, 0, 10, 10, 10]
        print(center_hits(np.array([[0, 0.9, *box]]), np.array([[0, np.inf, *box]])))
    """
    scores, hits = [np.zeros(0)], [np.zeros(0, dtype=bool)]
    for label in np.unique(found[:, 0]):
        rows = found[found[:, 0] == label]
        rows = rows[np.argsort(-rows[:, 1], kind="stable")][:max_detections]
        low, high = np.split(true[true[:, 0] == label, 2:], 2, axis=1)
        center = (rows[:, 2:5] + rows[:, 5:]) / 2
        offset = (center[:, None] - (low + high)[None] / 2) / ((high - low)[None] / 2)
        inside = np.square(offset).sum(-1) < 1
        best = inside.argmax(0)[inside.any(0)]  # the first is that of the highest score
        scores += [rows[best, 1], rows[~inside.any(1), 1]]
        hits += [np.ones(len(best), dtype=bool), np.zeros(int((~inside.any(1)).sum()), dtype=bool)]
    return np.concatenate(scores), np.concatenate(hits)


def compute_froc(scores: np.ndarray, hits: np.ndarray, num_true: int, num_images: int) -> dict[str, float]:
    """Sensitivities at rates of false predictions an image.

    MONAI's ``compute_froc_curve_data`` leaves the lowest score out, and takes a pass for every score.

    Args:
        scores: (D,) of all predictions that count.
        hits: (D,), whether each found a box.
        num_true: boxes there are.
        num_images: images there are.

    Returns:
        "froc_RATE" for 1_8, 1_4, 1_2, 1, 2, 4 and 8 false predictions an image, and "froc", their mean; nan without
        boxes.

    Example::

        print(compute_froc(np.array([0.9, 0.8]), np.array([True, False]), num_true=2, num_images=1)["froc_1"])  # 0.5
    """
    if not num_true:
        return {"froc": float("nan"), **{f"froc_{name}": float("nan") for name in FROC_RATES}}
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], hits[order]
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # of equal scores, which no threshold parts
    false = np.concatenate(([0], (~hits).cumsum()[last])) / num_images
    right = np.concatenate(([0], hits.cumsum()[last])) / num_true
    curve = (false[::-1], right[::-1])  # from high rates to low, as MONAI has it
    values = {f"froc_{name}": float(compute_froc_score(*curve, (rate,))) for name, rate in FROC_RATES.items()}
    return {"froc": float(np.mean(list(values.values()))), **values}
