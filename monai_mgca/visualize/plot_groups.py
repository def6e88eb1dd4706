# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Plots the figures of groups of patients."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.utils import optional_import

from monai_mgca.visualize.save_figure import save_figure

Figure, _ = optional_import("matplotlib.figure", name="Figure")

__all__ = ["draw_groups"]

_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#8a8a8a")
_TITLES = {"auroc": "AUROC", "sensitivity": "sensitivity", "specificity": "specificity"}


def draw_groups(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """A panel for each figure, a row for each finding and group, a color for each way of grouping.

    Args:
        path: of the picture (PNG, PDF or SVG).
        rows: with "finding", "by", "group", "images" and the figures, with their ends "_low" and "_high" where there
            are intervals; those of the group "gap" are not drawn.

    Example::

        row = {"finding": "edema", "by": "sex", "group": "F", "images": 60, "auroc": 0.8}
        draw_groups("groups.png", [row | {"sensitivity": 0.7, "specificity": 0.9}])
    """
    shown = [row for row in rows if row["group"] != "gap"]
    ways = list(dict.fromkeys(row["by"] for row in shown))
    picture = Figure(figsize=(10, 1.1 + 0.27 * len(shown)), dpi=120, layout="constrained")
    axes = picture.subplots(1, len(_TITLES), sharey=True)
    places = np.arange(len(shown))[::-1]
    for ax, (kind, title) in zip(axes, _TITLES.items(), strict=True):
        for place, row in zip(places, shown, strict=True):
            color = _COLORS[ways.index(row["by"]) % len(_COLORS)]
            ax.hlines(place, row.get(f"{kind}_low", np.nan), row.get(f"{kind}_high", np.nan), color=color, alpha=0.6)
            ax.plot(row[kind], place, "o", color=color, ms=5)
        ax.set(xlim=(-0.02, 1.02), title=title)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25, axis="x")
    axes[0].set_yticks(places, [f"{row['finding']}, {row['group']} ({row['images']:.0f})" for row in shown])
    axes[0].set_ylim(-0.6, len(shown) - 0.4)
    save_figure(picture, path)
