# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Plots the curves of a training from its TensorBoard files."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from monai.utils import optional_import
from PIL import Image

Figure, has_matplotlib = optional_import("matplotlib.figure", name="Figure")

__all__ = ["draw_training_curves", "read_training_curves"]

# by these one knows a pretraining among other runs
MARKS = ("train_loss", "val_mean_recall")
WAYS = ("image_to_report", "report_to_image")
# title of a panel: the curves in it, and how they are drawn
_BLUE, _ORANGE = "#0072b2", "#e69f00"
PANELS: dict[str, dict[str, tuple[str, str, str]]] = {
    **{
        title: {f"train_{name}": ("training", _BLUE, "-"), f"val_{name}": ("validation", _ORANGE, "-")}
        for title, name in (
            ("total loss", "loss"),
            ("instance alignment", "instance_loss"),
            ("token alignment", "token_loss"),
            ("prototype alignment", "prototype_loss"),
        )
    },
    "recall on validation": {
        f"val_{way}_recall_at_{k}": (f"R@{k} {name}", color, style)
        for way, name, style in zip(WAYS, ("image to report", "report to image"), ("-", "--"), strict=True)
        for k, color in ((10, "#009e73"), (5, "#56b4e9"), (1, _BLUE))
    },
    "collapse on validation (1 is collapsed)": {
        "val_image_collapse": ("images", _BLUE, "-"),
        "val_report_collapse": ("reports", _ORANGE, "-"),
    },
}

Curves = dict[str, list[tuple[int, float]]]


def read_training_curves(logdir: str | os.PathLike) -> Curves:
    """The curves by epoch of the newest pretraining that wrote TensorBoard's event files to a folder.

    A training that was resumed has several files: what the newer ones do not have is taken from the ones before. Files
    of subfolders are of other tasks.

    Args:
        logdir: folder of the event files.

    Returns:
        name to (epoch, value) pairs in order; empty where no file is of a pretraining.

    Example::

        print(sorted(read_training_curves("bundles/mgca/eval")))  # ['train_instance_loss', ...
    """
    curves: Curves = {}
    files = sorted(Path(logdir).glob("*.tfevents.*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for part in filter(None, map(_read, files)):
        begin = min((pairs[0][0] for pairs in curves.values()), default=None)
        curves = {
            name: [pair for pair in part.get(name, []) if begin is None or pair[0] < begin] + curves.get(name, [])
            for name in part.keys() | curves.keys()
        }
        curves = {name: pairs for name, pairs in curves.items() if pairs}
        if min(pairs[0][0] for pairs in curves.values()) <= 1:
            break
    return dict(sorted(curves.items()))


def _read(path: Path) -> Curves | None:
    """The curves of one file, up to where it is damaged; None where it is not of a pretraining."""
    # here: it takes a second
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path), size_guidance={"scalars": 0}).Reload()
    names = events.Tags()["scalars"]
    if not set(MARKS) <= set(names):
        return None
    wanted = [name for name in names if name.startswith(("train_", "val_"))]
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in wanted}


def draw_training_curves(curves: Mapping[str, Sequence[tuple[int, float]]]) -> Image.Image:
    """A panel for each loss term, the recall and the collapse, by the epoch.

    Args:
        curves: of :func:`read_training_curves`, not empty; panels without a curve are left out.

    Raises:
        ImportError: when matplotlib is not installed.

    Example::

        draw_training_curves({"train_loss": [(1, 9.0), (2, 7.5)], "val_loss": [(1, 9.5), (2, 8.0)]}).save("curves.png")
    """
    panels = list(_panels(curves))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    picture = Figure(figsize=(3.6 * columns, 2.7 * rows), dpi=110, layout="constrained")
    axes = picture.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[len(panels) :]:
        ax.remove()
    for ax, (title, lines) in zip(axes, panels, strict=False):
        for name, (label, color, style) in lines.items():
            epochs, values = zip(*curves[name], strict=True)
            ax.plot(epochs, values, style, marker="." if len(epochs) < 3 else "", color=color, lw=1.5, label=label)
        if title.startswith(("recall", "collapse")):
            ax.set_ylim(0, 1)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("epoch", fontsize=9)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
        ax.legend(fontsize=7, frameon=False)
    stream = io.BytesIO()
    picture.savefig(stream, format="PNG")
    return Image.open(stream)


def _panels(curves: Mapping[str, Sequence[tuple[int, float]]]) -> Iterator[tuple[str, dict[str, tuple[str, str, str]]]]:
    for title, lines in PANELS.items():
        there = {name: look for name, look in lines.items() if curves.get(name)}
        if there:
            yield title, there
