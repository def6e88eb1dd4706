# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Draws overview.png and volumes.png of docs/images and a sheet of each task's overlays: `python docs/make_figures.py`.

It needs matplotlib.

The sheets show what `inference_<task>.json --overlays true` (of volumes with
`--output_dir bundles/mgca/eval/volume/<task>`) and `mgca ground --evaluate` wrote for the sample, classification.png
what its evaluation and its probe (`--output bundles/mgca/eval/classification/probe.csv`) measured, calibration.png the
reliability diagrams of `mgca calibrate`; without it they stay as they are.
"""

from __future__ import annotations

import csv
import json
import statistics
import tempfile
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image

from monai_mgca.data import make_sample, make_volume_sample
from monai_mgca.transforms import LoadVolume

IMAGES = Path(__file__).parent / "images"
EVAL = Path(__file__).parents[1] / "bundles" / "mgca" / "eval"
BLUE, GREEN, GRAY = "#2b6cb0", "#2f855a", "#4a5568"


def box(ax: Axes, x: float, y: float, width: float, height: float, text: str, color: str, size: float = 10) -> None:
    """A rounded box around its text, from its lower left corner."""
    shape = FancyBboxPatch((x, y), width, height, "round,pad=0,rounding_size=0.12", fc=color + "18", ec=color, lw=1.4)
    ax.add_patch(shape)
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=size, color="#1a202c")


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str, style: str = "-|>") -> None:
    """A straight arrow."""
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle=style, mutation_scale=14, color=color, lw=1.6))


def draw_overview(image: Image.Image, report: str, path: Path) -> None:
    """What is aligned with what, and what it is for."""
    figure, ax = plt.subplots(figsize=(10.4, 4.1), dpi=110)
    ax.set(xlim=(0, 15.2), ylim=(0, 6), aspect="equal")
    ax.axis("off")
    ax.imshow(image, cmap="gray", extent=(0.1, 2.5, 3.4, 5.8), aspect="equal", zorder=1)
    text = textwrap.fill(". ".join(report.split(". ")[:4]) + ". ...", 24)
    ax.text(0.1, 1.4, text, fontsize=8.5, va="center", style="italic", color=GRAY)
    box(ax, 3.3, 4.1, 2.2, 1.0, "image encoder\n(ViT or ResNet)", BLUE)
    box(ax, 3.3, 0.9, 2.2, 1.0, "report encoder\n(BERT)", GREEN)
    arrow(ax, (2.7, 4.6), (3.25, 4.6), BLUE)
    arrow(ax, (2.7, 1.4), (3.25, 1.4), GREEN)
    columns = ((6.1, "whole image", "whole report", "instance"), (8.2, "patches", "words", "token"))
    for x, of_image, of_report, name in (*columns, (10.3, "scores", "scores", "prototype")):
        box(ax, x, 4.2, 1.7, 0.8, of_image, BLUE, 9)
        box(ax, x, 1.0, 1.7, 0.8, of_report, GREEN, 9)
        arrow(ax, (x + 0.85, 1.9), (x + 0.85, 4.1), GRAY, "<|-|>")
        ax.text(x + 0.85, 3, f"{name}\nalignment", ha="center", va="center", fontsize=9.5, backgroundcolor="white")
    arrow(ax, (5.55, 4.6), (6.05, 4.6), BLUE)
    arrow(ax, (5.55, 1.4), (6.05, 1.4), GREEN)
    ax.plot((4.4, 4.4), (5.1, 5.6), color=BLUE, lw=1.6)
    arrow(ax, (4.37, 5.6), (12.65, 5.6), BLUE)
    box(ax, 12.7, 4.95, 2.4, 1.0, "your own task,\nwith few labels", BLUE)
    figure.savefig(path, bbox_inches="tight", pad_inches=0.05)
    plt.close(figure)


def draw_overlays(folder: Path, path: Path, columns: int = 6, rows: int = 2, size: int = 146) -> None:
    """A sheet of the first overlays of a folder."""
    files = sorted(folder.rglob("*_overlay.png")) or sorted(folder.glob("*.png"))  # of a task, or of grounding
    if not files:
        return
    sheet = Image.new("RGB", (columns * size, rows * size))
    for index, file in enumerate(files[: columns * rows]):
        with Image.open(file) as image:
            sheet.paste(image.resize((size, size)), (index % columns * size, index // columns * size))
    sheet.quantize(256).save(path, optimize=True)


def draw_planes(folder: Path, path: Path, rows: int = 3) -> None:
    """The planes of the first volumes of a folder, one below the other."""
    planes = [Image.open(file) for file in sorted(folder.rglob("*_overlay.png"))[:rows]]
    if not planes:
        return
    sheet = Image.new("RGB", (max(image.width for image in planes), sum(image.height for image in planes)))
    top = 0
    for image in planes:
        sheet.paste(image, (0, top))
        top += image.height
    sheet.quantize(256).save(path, optimize=True)


def draw_classification(figures: Path, probe: Path, path: Path) -> None:
    """AUROC of each class with its interval from metrics.csv; AUROC by the part of the labels from probe.csv."""
    values = {name: float(value) for name, value in csv.reader(figures.open())}
    names = [name for name in values if name.startswith("val_auroc_") and not name.endswith(("_low", "_high"))]
    names = [*sorted(names, key=lambda name: values[name]), "val_mean_auroc"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.2), dpi=110)
    for y, name in enumerate(names):
        color = GREEN if name == "val_mean_auroc" else BLUE
        left.plot([values[f"{name}_low"], values[f"{name}_high"]], [y, y], color=color, lw=3, alpha=0.4)
        left.plot(values[name], y, "o", color=color)
    left.set(yticks=range(len(names)), xlim=(0.4, 1.02), xlabel="AUROC, 95 % interval", title="finetuned, all labels")
    left.set_yticklabels([name.removeprefix("val_auroc_").replace("val_mean_auroc", "mean") for name in names])
    rows = [row for row in csv.DictReader(probe.open()) if row["class"] == "mean" and row["auroc"]]
    for color, encoder in zip((BLUE, GRAY), dict.fromkeys(row["encoder"] for row in rows), strict=False):
        own = [row for row in rows if row["encoder"] == encoder]
        parts = sorted({float(row["fraction"]) for row in own})
        cells = [[float(row["auroc"]) for row in own if float(row["fraction"]) == part] for part in parts]
        mean, spread = [statistics.mean(cell) for cell in cells], [statistics.pstdev(cell) for cell in cells]
        label = "random" if encoder == "random" else "pretrained"
        right.errorbar(parts, mean, spread, color=color, marker="o", capsize=3, label=label)
    right.set(xscale="log", xlabel="part of the labels", ylabel="mean AUROC", title="linear probe, three seeds")
    right.legend(frameon=False)
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def draw_volumes(folder: Path, path: Path, kinds: tuple[str, ...] = ("effusion", "opacity", "nodule")) -> None:
    """An axial, a coronal and a sagittal slice of studies of the sample of CTs, a column each, with their reports."""
    document = json.loads(Path(make_volume_sample(folder, size=40, image_size=110, progress=False)).read_text())
    entries = [entry for section in ("training", "validation", "test") for entry in document[section]]
    labels = [[int(name == kind) for name in document["classes"]] for kind in (*kinds, "")]
    chosen = [min((e for e in entries if e["labels"] == row), key=lambda e: len(e["report"])) for row in labels]
    figure, axes = plt.subplots(3, len(chosen), figsize=(10, 8.6), dpi=90)
    for column, entry in zip(axes.T, chosen, strict=True):
        volume = LoadVolume()(folder / entry["image"])[0].numpy()  # axes to the left, back and head
        i, j, k = (int(part * len(volume)) for part in (0.68, 0.54, 0.5))
        for ax, plane in zip(column, (volume[:, :, k].T, volume[:, j].T[::-1], volume[i].T[::-1]), strict=True):
            ax.imshow(plane, cmap="gray", vmin=-1000, vmax=400)
            ax.axis("off")
        text = textwrap.fill(textwrap.shorten(entry["report"], 230, placeholder=" ..."), 38)
        column[2].text(0.5, -0.05, text, fontsize=7.5, va="top", ha="center", color=GRAY, transform=column[2].transAxes)
    figure.subplots_adjust(0, 0.16, 1, 1, wspace=0.03, hspace=0.03)
    figure.savefig(path)
    plt.close(figure)
    with Image.open(path) as image:
        image.convert("L").save(path, optimize=True)


def main() -> None:
    """Draw all figures from the built-in sample."""
    for folder in EVAL.glob("*/overlays"):
        draw_overlays(folder, IMAGES / f"{folder.parent.name}.png")
    for folder in EVAL.glob("volume/*/overlays"):
        draw_planes(folder, IMAGES / f"volume_{folder.parent.name}.png")
    figures, probe = (EVAL / "classification" / name for name in ("metrics.csv", "probe.csv"))
    if figures.is_file() and probe.is_file():
        draw_classification(figures, probe, IMAGES / "classification.png")
    if (reliability := EVAL / "calibration" / "calibration.png").is_file():
        with Image.open(reliability) as image:
            image.convert("RGB").quantize(64).save(IMAGES / "calibration.png", optimize=True)
    with tempfile.TemporaryDirectory() as folder:
        draw_volumes(Path(folder), IMAGES / "volumes.png")
    with tempfile.TemporaryDirectory() as folder:
        datalist = Path(make_sample(folder, size=24, image_size=256, progress=False))
        entries = json.loads(datalist.read_text())["training"]
        entry = min((e for e in entries if sum(e["labels"]) == 2), key=lambda e: len(e["report"]))
        with Image.open(Path(folder) / entry["image"]) as image:
            draw_overview(image, entry["report"], IMAGES / "overview.png")


if __name__ == "__main__":
    main()
