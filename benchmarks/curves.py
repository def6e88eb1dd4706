# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Draws the curves of pretraining runs from their TensorBoard events.

python benchmarks/curves.py --runs runs/seed0/eval runs/seed1/eval --output curves.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TERMS = ("instance", "token", "prototype")
PANELS = {
    "Recall@10 (validation)": ("val_image_to_report_recall_at_10", "val_report_to_image_recall_at_10"),
    "Median rank (validation)": ("val_image_to_report_median_rank", "val_report_to_image_median_rank"),
    "Loss terms (training, epoch means)": tuple(f"train_{term}_loss" for term in TERMS),
    "Loss terms (validation)": tuple(f"val_{term}_loss" for term in TERMS),
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="folders with event files")
    parser.add_argument("--output", type=Path, required=True, help="PNG to write")
    args = parser.parse_args()
    figure, axes = plt.subplots(1, len(PANELS), figsize=(4 * len(PANELS), 3.2))
    for style, run in zip(("-", "--", ":", "-."), args.runs, strict=False):
        events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
        for axis, (title, names) in zip(axes, PANELS.items(), strict=True):
            for color, name in zip(("C0", "C1", "C2"), names, strict=False):
                if name not in events.Tags()["scalars"]:
                    continue
                scalars = events.Scalars(name)
                label = name.replace("val_", "").replace("train_", "").replace("_", " ") if style == "-" else None
                axis.plot(range(1, len(scalars) + 1), [s.value for s in scalars], style, color=color, label=label)
            axis.set_title(title, fontsize=10)
            axis.set_xlabel("epoch")
            axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(args.output, dpi=90)
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
