# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Plots how a model tells sentences from their negations, and what bare names find."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from monai.utils import optional_import

from monai_mgca.visualize.save_figure import save_figure

Figure, _ = optional_import("matplotlib.figure", name="Figure")

__all__ = ["draw_negation"]

ENDS = ("", "_low", "_high")
_BLUE, _ORANGE, _GRAY = "#0072b2", "#e69f00", "#8a8a8a"


def draw_negation(
    path: str | os.PathLike, figures: Mapping[str, float], names: Sequence[str], present: Mapping[str, int]
) -> None:
    """A row for each finding: balanced accuracy of a sentence against its negation, and precision at 10.

    Args:
        path: of the picture (PNG, PDF or SVG).
        figures: as :func:`monai_mgca.apps.negation.measure_negation.compare_sentences` gives them; intervals are drawn
            where there are some.
        names: of the findings.
        present: number of images that have each.

    Example::

        figures = {"sentence_balanced_accuracy_edema": 0.7, "name_precision_edema": 0.4, "name_prevalence_edema": 0.1}
        draw_negation("negation.png", figures | {"sentence_precision_edema": 0.5}, ["edema"], {"edema": 9})
    """
    picture = Figure(figsize=(9, 1.3 + 0.38 * len(names)), dpi=120, layout="constrained")
    left, right = picture.subplots(1, 2, sharey=True)
    rows = np.arange(len(names))[::-1]
    keys = [name.replace(" ", "_") for name in names]

    def dots(ax, kind: str, color: str, label: str, offset: float = 0.0) -> None:
        value, low, high = (np.array([figures.get(f"{kind}_{k}{end}", np.nan) for k in keys]) for end in ENDS)
        ax.hlines(rows + offset, low, high, color=color, lw=1.5, alpha=0.6)
        ax.plot(value, rows + offset, "o", color=color, ms=5, label=label)

    dots(left, "sentence_balanced_accuracy", _BLUE, "")
    left.axvline(0.5, color="black", lw=0.6, ls=":")
    left.set(xlim=(0, 1), title="nearer to the right sentence\n(balanced accuracy, chance 0.5)")
    dots(right, "name_precision", _ORANGE, "bare name", 0.12)
    dots(right, "sentence_precision", _BLUE, "sentence", -0.12)
    prevalence = [figures.get(f"name_prevalence_{k}", np.nan) for k in keys]
    right.plot(prevalence, rows, "|", color=_GRAY, ms=14, mew=2, label="prevalence")
    right.set(xlim=(-0.02, 1.02), title="with the finding among the first ten")
    right.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    left.set_yticks(rows, [f"{name} ({present.get(name, 0)})" for name in names])
    left.set_ylim(-0.6, len(names) - 0.4)
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25, axis="x")
    save_figure(picture, path)
