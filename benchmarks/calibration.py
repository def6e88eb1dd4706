# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Calibration errors and decisions of zero-shot classification and of a linear probe, by each method, held out.

Prints tables. docs/benchmarks.md has the commands that make the datalist and the checkpoints, docs/calibration.md what
came out. Calibrations are fitted to four fifths of the patients of a section and measured on the last fifth, five
times. The probe is fitted to the training section and calibrated on the other one.

    python benchmarks/calibration.py --dataset-dir $CXR --datalist findings.json --runs runs/seed0 runs/seed1
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from monai_mgca.apps import compute_features, fit_linear_probe, load_pretrained
from monai_mgca.apps.calibrate.fit_scores import measure_held_out
from monai_mgca.apps.calibrate.scores import Scores, compute_scores
from monai_mgca.apps.labeled_set import load_set
from monai_mgca.apps.load_images import image_batches
from monai_mgca.metrics.calibration import METHODS

PROMPTS = Path(__file__).parents[1] / "bundles" / "mgca" / "configs" / "prompts.json"


def probe_scores(args: argparse.Namespace, zero_shot: Scores) -> Scores:
    """Those of a linear probe on the features of the same encoder."""
    train = load_set(args, "training")
    model = load_pretrained(args.checkpoint)
    items = [*train.items, *load_set(args, args.section).items]
    with image_batches(items, model.image_transform, model.spatial_dims) as batches:
        features = compute_features(model.network.image_encoder, batches, model.device).numpy()
    fitted = fit_linear_probe(features[: len(train.items)], train.labels, [item["patient"] for item in train.items])
    return zero_shot._replace(probabilities=fitted(features[len(train.items) :]), texts=())


def rows_of(name: str, scores: Scores, point: str) -> Iterator[str]:
    """A line for each method."""
    for method in METHODS:
        parts = [measure_held_out(scores, column, method, point) for column in range(len(scores.classes))]
        parts = [part for part in parts if part is not None]
        before, after = np.array([part.errors() for part in parts]).T
        decisions = [part.decisions() for part in parts]
        figures = [
            f"{d[key]:.2f} ({d[f'{key}_low']:.2f} to {d[f'{key}_high']:.2f})"
            for d in decisions
            for key in ("sensitivity", "specificity")
        ]
        errors = " | ".join(f"{value:.3f}" for value in (before.mean(), *after, after.mean()))
        yield f"| {name} | {method} | {errors} | {' | '.join(figures)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset-dir", type=Path, required=True)
    parser.add_argument("--datalist", type=Path, required=True)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="folders with model_pretrain.pt")
    parser.add_argument("--prompts", type=Path, default=PROMPTS)
    parser.add_argument("--section", default="validation")
    parser.add_argument("--point", default="youden")
    parser.add_argument("--probe", action="store_true", help="also of a linear probe")
    given = parser.parse_args()
    fixed = {"classes": None, "uncertain": "ignore", "temperature": 0.07, "sample_size": None}
    for run in given.runs:
        args = argparse.Namespace(**vars(given), **fixed, checkpoint=str(run / "model_pretrain.pt"))
        scores = compute_scores(args)
        if run == given.runs[0]:
            heads = [f"{name} {kind}" for name in scores.classes for kind in ("sensitivity", "specificity")]
            columns = ["scores", "method", "before", *scores.classes, "mean", *heads]
            print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
        print("\n".join(rows_of(f"zero-shot, {run.name}", scores, given.point)), flush=True)
        if given.probe:
            print("\n".join(rows_of(f"probe, {run.name}", probe_scores(args, scores), given.point)), flush=True)


if __name__ == "__main__":
    main()
