# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Compares options of the pretraining over a few seeds: retrieval, zero-shot classification, probes.

Prints each option's means, and the paired differences from the first with their 95 % intervals (Student's t over the
seeds). docs/benchmarks.md has the commands that make the datalist and the runs, and what came out.

    python benchmarks/options.py --dataset-dir $CXR --datalist findings.json --option similarity runs/similarity-seed? \
        --option learned runs/learned-seed?
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from monai_mgca.apps import ZeroShotClassifier, compute_features, fit_linear_probe, load_pretrained
from monai_mgca.data import class_names, load_datalist, load_labeled
from monai_mgca.data.fraction import take_fraction
from monai_mgca.metrics import compute_classification, compute_retrieval
from monai_mgca.visualize import mean_interval

PROMPTS = Path(__file__).parents[1] / "bundles" / "mgca" / "configs" / "prompts.json"
COLUMNS = ("R@10 i2r", "R@10 r2i", "rank i2r", "rank r2i", "zero-shot", "probe", "probe 10 %")
LABEL_SEEDS = 3


class Data:
    """Pairs and labels of both sections."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.classes = class_names(args.datalist, "classification")
        self.pairs = load_datalist(args.datalist, "validation", args.dataset_dir)
        sections = ("training", "validation")
        loaded = [load_labeled(args.datalist, s, "classification", args.dataset_dir, self.classes) for s in sections]
        self.paths = [item["image"] for items in loaded for item in items]
        rows = [[item["label"] for item in part] for part in loaded]
        self.labels = [np.array([[np.nan if v is None else v for v in row] for row in part]) for part in rows]
        self.patients = [entry["patient"] for entry in load_datalist(args.datalist, "training", args.dataset_dir)]


@torch.no_grad()
def figures(run: Path, data: Data) -> dict[str, float]:
    """All columns for one run."""
    model = load_pretrained(run / "model_pretrain.pt")
    images = model.embed_images([pair["image"] for pair in data.pairs], description=f"{run.name}: images")
    texts = [pair["report"] for pair in data.pairs]
    tokens = model.report_tokens(texts)
    found = compute_retrieval(images, model.embed_reports(texts), tokens)
    probabilities = ZeroShotClassifier(model, PROMPTS, data.classes).classify(images.to(model.device)).cpu().numpy()
    zero_shot = compute_classification(probabilities.astype(float), data.labels[1], data.classes)
    batches = [{"image": batch} for batch in model.load_images(data.paths, description=f"{run.name}: features")]
    features = compute_features(model.network.image_encoder, batches, model.device).numpy()
    return {
        "R@10 i2r": found["image_to_report_recall_at_10"],
        "R@10 r2i": found["report_to_image_recall_at_10"],
        "rank i2r": found["image_to_report_median_rank"],
        "rank r2i": found["report_to_image_median_rank"],
        "zero-shot": zero_shot["mean_auroc"],
        "probe": probe(features, data, 1.0, 0),
        "probe 10 %": float(np.mean([probe(features, data, 0.1, seed) for seed in range(LABEL_SEEDS)])),
    }


def probe(features: np.ndarray, data: Data, fraction: float, seed: int) -> float:
    """Mean AUROC of linear probes, as mgca probe fits them."""
    train, labels = len(data.labels[0]), data.labels[0]
    items = [{"patient": patient, "row": row} for row, patient in enumerate(data.patients)]
    positives = {row: tuple(np.flatnonzero(label == 1)) for row, label in enumerate(labels)}
    rows = [item["row"] for item in take_fraction(items, fraction, seed, lambda item: positives[item["row"]])]
    fitted = fit_linear_probe(features[rows], labels[rows], [data.patients[row] for row in rows], seed=seed)
    return compute_classification(fitted(features[train:]), data.labels[1], data.classes)["mean_auroc"]


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Means with intervals, then differences from the first option of the same seeds."""
    lines = ["| option | " + " | ".join(COLUMNS) + " |", "|" + "---|" * (len(COLUMNS) + 1)]
    for name, runs in found.items():
        lines.append(f"| {name} | " + " | ".join(cell([run[c] for run in runs], c) for c in COLUMNS) + " |")
    first, *others = found
    for name in others:
        pairs = list(zip(found[name], found[first], strict=True))
        cells = [cell([own[c] - base[c] for own, base in pairs], c, judge=True) for c in COLUMNS]
        lines.append(f"| {name} - {first} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(values: list[float], column: str, judge: bool = False) -> str:
    digits = 0 if "rank" in column else 3
    mean, low, high = mean_interval(values)
    sign = "+" if judge else ""
    verdict = "" if not judge else (" noise" if low <= 0 <= high else " **differs**")
    return f"{mean:{sign}.{digits}f} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f}){verdict}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset-dir", type=Path, required=True)
    parser.add_argument("--datalist", type=Path, required=True, help="with reports and labels")
    parser.add_argument("--option", nargs="+", action="append", required=True, help="its name, and a run for each seed")
    args = parser.parse_args()
    if len({len(option) for option in args.option}) > 1 or len(args.option[0]) < 3:
        parser.error("every option needs the same number of runs, of the same seeds in the same order, and two or more")
    data = Data(args)
    found = {name: [figures(Path(run), data) for run in runs] for name, *runs in args.option}
    print(f"\nClasses: {', '.join(data.classes)}. {len(data.pairs)} validation pairs.\n\n{table(found)}")


if __name__ == "__main__":
    main()
