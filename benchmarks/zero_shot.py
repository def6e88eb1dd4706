# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Zero-shot classification of a section of a datalist by several pretrainings, beside the same networks at random.

Prints a table. docs/benchmarks.md has the commands that make the datalist and the checkpoints, and what came out.

    python benchmarks/zero_shot.py --dataset-dir $CXR --datalist findings.json --runs runs/seed0 runs/seed1
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from monai_mgca.apps import ZeroShotClassifier, load_pretrained, prompted_classes
from monai_mgca.data import class_names, load_labeled
from monai_mgca.metrics import compute_zero_shot
from monai_mgca.metrics.bootstrap import weighted_auroc_and_ap, with_intervals
from monai_mgca.transforms import ResolveUncertainLabels

PROMPTS = Path(__file__).parents[1] / "bundles" / "mgca" / "configs" / "prompts.json"


def probabilities(
    run: Path, number: int, random: bool, paths: Sequence[str], classes: Sequence[str], prompts: Path
) -> np.ndarray:
    """(N, F), of the network of a run, or of the same with random weights."""
    torch.manual_seed(number)
    model = load_pretrained(run / "model_pretrain.pt", random=random)
    classify = ZeroShotClassifier(model, prompts, classes)
    kind = "random" if random else run.name
    return classify.classify(model.embed_images(paths, description=kind).to(model.device)).cpu().double().numpy()


def mean_of(scores: np.ndarray, labels: np.ndarray, classes: Sequence[str], replicates: int) -> dict[str, float]:
    """Mean AUROC over the runs (S, N, F); the interval is of the images, which all runs share."""

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        known = ~np.isnan(labels)
        columns = [
            np.mean([weighted_auroc_and_ap(s[rows, i], labels[rows, i], weights[:, rows])[0] for s in scores], axis=0)
            for i, rows in enumerate(known.T)
        ]
        return {name: column for name, column in zip([*classes, "mean"], [*columns, np.mean(columns, 0)], strict=True)}

    return with_intervals(figures, len(labels), replicates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset-dir", type=Path, required=True)
    parser.add_argument("--datalist", type=Path, required=True)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="folders with model_pretrain.pt")
    parser.add_argument("--prompts", type=Path, default=PROMPTS)
    parser.add_argument("--section", default="validation")
    parser.add_argument("--bootstrap", type=int, default=1000)
    args = parser.parse_args()

    classes = prompted_classes(args.prompts, class_names(args.datalist, "classification"))
    items = load_labeled(args.datalist, args.section, "classification", args.dataset_dir, classes)
    resolve = ResolveUncertainLabels("ignore", classes)
    labels = np.array([resolve(item["label"]).numpy() for item in items], dtype=float)
    paths = [item["image"] for item in items]
    counts = [f"{int((column == 1).sum())} of {int((~np.isnan(column)).sum())}" for column in labels.T]
    lines, notes = [f"| encoders | {' | '.join(classes)} | mean |", "|" + "---|" * (len(classes) + 2)], []
    lines.append(f"| images with it | {' | '.join(counts)} | |")
    for random in (True, False):
        kind = "random" if random else "pretrained"
        scores = []
        for number, run in enumerate(args.runs):
            scores.append(probabilities(run, number, random, paths, classes, args.prompts))
            start = time.perf_counter()
            found = compute_zero_shot(scores[-1], labels, classes, args.bootstrap)
            seconds = time.perf_counter() - start
            names = [f"auroc_{name.replace(' ', '_')}" for name in classes] + ["mean_auroc"]
            lines.append(row(f"{kind} {number}", found, names))
            notes.append(
                f"{kind} {number}: mean balanced accuracy {found['mean_balanced_accuracy']:.3f}, mean calibration "
                f"error {found['mean_ece']:.3f}; all figures with {args.bootstrap} replicates took {seconds:.1f} s."
            )
        total = mean_of(np.stack(scores), labels, classes, args.bootstrap)
        lines.append(row(f"**{kind}, mean of {len(scores)}**", total, [*classes, "mean"]))
    print("\n".join(["", *lines, "", *notes]))


def row(title: str, figures: dict[str, float], names: Sequence[str]) -> str:
    cells = [f"{figures[n]:.3f} ({figures[f'{n}_low']:.3f} to {figures[f'{n}_high']:.3f})" for n in names]
    return f"| {title} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
