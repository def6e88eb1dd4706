# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Figures of a finding for groups of patients, and the gaps between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import ks_2samp

from monai_mgca.metrics.bootstrap import weighted_auroc_and_ap, with_intervals
from monai_mgca.metrics.operating_points import measure_decisions

__all__ = ["age_bands", "compute_subgroups"]

_FIGURES = ("auroc", "sensitivity", "specificity")


def age_bands(ages: Sequence[float | None], edges: Sequence[float] = (18, 40, 65)) -> list[str | None]:
    """The band of each age in years.

    Args:
        ages: N; None where unknown.
        edges: where a band begins, ascending.

    Example::

        print(age_bands([7, 40, 90, None]))  # ['0-17', '40-64', '65+', None]
    """
    starts = [0, *edges]
    names = [f"{low:g}-{high - 1:g}" for low, high in zip(starts, edges, strict=False)] + [f"{starts[-1]:g}+"]
    return [None if age is None else names[int(np.searchsorted(edges, age, side="right"))] for age in ages]


def compute_subgroups(
    scores: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str | None],
    threshold: float = 0.5,
    minimum: int = 20,
    bootstrap: int = 0,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """AUROC, sensitivity and specificity of a finding in each group, and the largest gaps between groups.

    Args:
        scores: (N,) probabilities of the finding.
        labels: (N,) of 0 and 1, nan where unknown.
        groups: N names; None where unknown, which counts in no group.
        threshold: from which a score is taken for the finding.
        minimum: a group of fewer images with a known label is left out: its figures say nothing, and may identify
            somebody.
        bootstrap: number of replicates of all images; 0 gives no intervals.
        seed: of the bootstrap.

    Returns:
        For each group that is shown, in the order of their names: "images" and "present" (numbers), "auroc",
        "sensitivity" and "specificity" (nan where its labels are all the same), and "ks", the p-value of the
        Kolmogorov-Smirnov test of its scores against those of the other groups. Under "gap" the largest less the
        smallest of each of the three figures, under "hidden" the number of "groups" and "images" that are left out.
        With a bootstrap figures and gaps have "_low" and "_high", the 2.5 and 97.5 percentiles. A gap is never
        negative, so its interval hardly ever holds 0: compare it with the intervals of the groups.

    Example::

        scores, labels = np.array([0.9, 0.1, 0.8, 0.7]), np.array([1.0, 0, 1, 0])
        print(compute_subgroups(scores, labels, ["F", "F", "M", "M"], minimum=2)["gap"]["specificity"])  # 1.0
    """
    known = ~np.isnan(labels) & np.array([group is not None for group in groups], dtype=bool)
    names = np.array([str(group) for group in groups])
    # the draws do not depend on the images' order
    order = np.lexsort((names[known], labels[known], scores[known]))
    scores, labels, names = (values[known][order] for values in (scores, labels, names))
    everyone = {name: names == name for name in sorted(set(names))}
    shown = {name: rows for name, rows in everyone.items() if rows.sum() >= minimum}

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for name, rows in shown.items():
            for key, values in _figures(scores[rows], labels[rows], weights[:, rows], threshold).items():
                found[f"{name}|{key}"] = values
        return found | {f"gap|{key}": _gap([found[f"{name}|{key}"] for name in shown]) for key in _FIGURES}

    measured = with_intervals(figures, len(labels), bootstrap, seed) if len(labels) else {}
    result: dict[str, dict[str, float]] = {}
    for name, rows in shown.items():
        rest = names != name
        p_value = float(ks_2samp(scores[rows], scores[rest]).pvalue) if rest.any() else np.nan
        counts = {"images": float(rows.sum()), "present": float(labels[rows].sum())}
        result[name] = counts | _of(measured, name) | {"ks": p_value}
    hidden = [rows.sum() for name, rows in everyone.items() if name not in shown]
    return result | {"gap": _of(measured, "gap"), "hidden": {"groups": len(hidden), "images": float(sum(hidden))}}


def _gap(values: Sequence[np.ndarray]) -> np.ndarray:
    """The largest less the smallest (R,) of the groups that have the figure at all; nan where these are not two."""
    known = [row for row in values if not np.isnan(row).all()]
    return np.ptp(np.array(known), axis=0) if len(known) > 1 else np.full(len(values[0]) if len(values) else 1, np.nan)


def _of(measured: dict[str, float], name: str) -> dict[str, float]:
    return {key.partition("|")[2]: value for key, value in measured.items() if key.startswith(f"{name}|")}


def _figures(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray, threshold: float) -> dict[str, np.ndarray]:
    """Each figure (R,) of one group, nan where a weighting lacks a label."""
    auroc = weighted_auroc_and_ap(scores, labels, weights)[0]
    return {"auroc": auroc, **measure_decisions(scores >= threshold, labels, weights)}
