# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Draws docs/images/overview.png (needs matplotlib): `python docs/make_figures.py`."""

from __future__ import annotations

import json
import tempfile
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image

from monai_mgca.data import make_sample

IMAGES = Path(__file__).parent / "images"
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


def main() -> None:
    """Draw all figures from the built-in sample."""
    with tempfile.TemporaryDirectory() as folder:
        datalist = Path(make_sample(folder, size=24, image_size=256, progress=False))
        entries = json.loads(datalist.read_text())["training"]
        entry = min((e for e in entries if sum(e["labels"]) == 2), key=lambda e: len(e["report"]))
        with Image.open(Path(folder) / entry["image"]) as image:
            draw_overview(image, entry["report"], IMAGES / "overview.png")


if __name__ == "__main__":
    main()
