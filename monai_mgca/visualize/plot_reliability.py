# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Draws reliability diagrams: how often a finding is there among images that have a probability of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from monai.metrics.calibration import calibration_binning
from monai.utils import optional_import

from monai_mgca.visualize.save_figure import save_figure

Figure, has_matplotlib = optional_import("matplotlib.figure", name="Figure")

__all__ = ["draw_reliability"]

BINS = 10
# distinguished by most eyes (Okabe and Ito 2008)
_COLORS = ("#8a8a8a", "#0072b2", "#e69f00", "#009e73")
_LARGEST = 220.0  # of a dot, in square points


def draw_reliability(
    path: str | os.PathLike, panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]
) -> None:
    """A panel for each finding: frequency by mean probability in ten bins, dots as large as their images are many.

    On the diagonal a probability is the frequency of the finding.

    Args:
        path: of the picture (PNG, PDF or SVG).
        panels: by finding and by the name of a curve (N,) probabilities and (N,) labels of 0 and 1.

    Raises:
        OptionalImportError: when matplotlib is not installed.

    Example::

        probability, label = np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1])
        draw_reliability("reliability.png", {"edema": {"before": (probability, label)}})
    """
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    picture = Figure(figsize=(0.5 + 2.7 * columns, 0.9 + 2.6 * rows), dpi=120, layout="constrained")
    axes = picture.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax in axes[len(panels) :]:
        ax.remove()
    for ax, (finding, curves) in zip(axes, panels.items(), strict=False):
        ax.plot([0, 1], [0, 1], color="black", lw=0.6, ls=":")
        for (name, (probability, label)), color in zip(curves.items(), _COLORS, strict=False):
            y_pred, y = (torch.as_tensor(part, dtype=torch.float32)[None, None] for part in (probability, label))
            found = calibration_binning(y_pred, y, num_bins=BINS)
            mean, frequency, count = (part[0, 0].numpy() for part in found)
            there = count > 0
            ax.plot(mean[there], frequency[there], color=color, lw=1.2, label=name)
            ax.scatter(mean[there], frequency[there], _LARGEST * count[there] / count.sum() + 4, color=color, alpha=0.6)
        ax.set(title=finding, xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
    picture.supxlabel("mean probability")
    picture.supylabel("frequency of the finding")
    handles, labels = axes[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_figure(picture, path)
