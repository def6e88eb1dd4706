# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Plots metrics over the share of labels, with intervals."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.utils import optional_import
from scipy import stats

from monai_mgca.visualize.save_figure import save_figure

Figure, _ = optional_import("matplotlib.figure", name="Figure")

__all__ = ["draw_curves", "mean_interval", "summarize_curves"]

# distinguished by most eyes (Okabe and Ito 2008)
_COLORS = ("#0072b2", "#8a8a8a", "#e69f00", "#009e73", "#cc79a7", "#d55e00")


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of a few runs and its 95 % interval by Student's t.

    Args:
        values: one a run; nan ones are left out.

    Returns:
        mean, lower and upper end: nan where there is no value, the ends also where there is only one.

    Example::

        print(mean_interval([0.7, 0.8, 0.9]))  # (0.8, 0.55..., 1.04...)
    """
    known = np.array([value for value in values if not np.isnan(value)])
    if not len(known):
        return np.nan, np.nan, np.nan
    mean = known.mean()
    reach = stats.t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known)) if len(known) > 1 else np.nan
    return float(mean), float(mean - reach), float(mean + reach)


def summarize_curves(rows: Sequence[Mapping[str, Any]], figure: str = "auroc") -> list[dict[str, Any]]:
    """A line for each encoder, fraction and class: the figure's mean over the seeds and its 95 % interval.

    Args:
        rows: with "encoder", "fraction", "seed", "images", "class" and the figure (nan where there is none).
        figure: key of the figure.

    Returns:
        "encoder", "fraction", "class", "images" (the mean number), "seeds" (with a figure), "mean", "low", "high".

    Example::

        row = {"encoder": "random", "fraction": 1, "images": 60, "class": "edema"}
        print(summarize_curves([{**row, "seed": 0, "auroc": 0.7}, {**row, "seed": 1, "auroc": 0.8}])[0]["mean"])  # 0.75
    """
    cells: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["encoder"], row["fraction"], row["class"]), []).append(row)
    lines = []
    for (encoder, fraction, name), cell in cells.items():
        values = [float(row[figure]) for row in cell]
        mean, low, high = mean_interval(values)
        lines.append(
            {
                "encoder": encoder,
                "fraction": fraction,
                "class": name,
                "images": round(float(np.mean([row["images"] for row in cell]))),
                "seeds": int(np.sum(~np.isnan(values))),
                **{"mean": mean, "low": low, "high": high},
            }
        )
    return lines


def draw_curves(path: str | os.PathLike, lines: Sequence[Mapping[str, Any]], title: str = "AUROC") -> None:
    """A panel for each class: the figure by the number of labeled images, a curve with its interval for each encoder.

    Args:
        path: of the picture (PNG, PDF or SVG).
        lines: of :func:`summarize_curves`.
        title: name of the figure.

    Example::

        line = {"encoder": "random", "fraction": 1, "class": "edema", "images": 60, "seeds": 2}
        draw_curves("curves.png", [{**line, "mean": 0.75, "low": 0.7, "high": 0.8}])
    """
    classes, encoders = (list(dict.fromkeys(line[key] for line in lines)) for key in ("class", "encoder"))
    columns = min(4, len(classes))
    rows = -(-len(classes) // columns)
    picture = Figure(figsize=(0.5 + 2.7 * columns, 0.7 + 2.4 * rows), dpi=120, layout="constrained")
    axes = picture.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax in axes[len(classes) :]:
        ax.remove()
    for ax, name in zip(axes, classes, strict=False):
        for index, encoder in enumerate(encoders):
            own = [line for line in lines if (line["class"], line["encoder"]) == (name, encoder)]
            own.sort(key=lambda line: line["images"])
            images, mean, low, high = (np.array([line[k] for line in own]) for k in ("images", "mean", "low", "high"))
            color = _COLORS[index % len(_COLORS)]
            ax.plot(images, mean, "o-", ms=4, color=color, label=encoder)
            ax.fill_between(images, np.clip(low, 0, 1), np.clip(high, 0, 1), color=color, alpha=0.15, lw=0)
        ax.axhline(0.5, color="black", lw=0.6, ls=":")
        ax.set(title=name, xscale="log")
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
    picture.supxlabel("labeled images")
    picture.supylabel(f"{title}, 95 % interval over seeds")
    handles, labels = axes[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside upper center", ncols=min(3, len(labels)), frameon=False)
    save_figure(picture, path)
