# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Does the representation choose what is worth annotating? Precision of text queries, and a simulated annotation.

Queries: of the validation images nearest to a text, how many have the finding. Annotation: from the training section
25, 50 and 100 images are labeled, chosen in one way or another; after each a linear probe on the frozen encoder's
features is measured on the validation section. A finding without a positive among the labels counts as AUROC 0.5. The
first image is a random one, and the figures of all encoders are averaged for each seed. docs/benchmarks.md has the
commands that make the datalist and the checkpoints, and what came out.

    python benchmarks/annotation.py --dataset-dir $CXR --datalist findings.json --runs runs/seed0 runs/seed1
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks import eval_mode
from sklearn.metrics import roc_auc_score

from monai_mgca.apps import fit_linear_probe, load_pretrained
from monai_mgca.data import class_names, load_labeled, read_datalist
from monai_mgca.label.active import k_center, mix_scores, novelty
from monai_mgca.visualize import mean_interval

WAYS = ("random", "diversity", "text", "uncertainty")
NORMAL = "normal chest"


def load(args: argparse.Namespace, section: str) -> tuple[list[str], list[str], np.ndarray]:
    """Paths, patients and labels (N, F) of a section."""
    items = load_labeled(args.datalist, section, "classification", args.dataset_dir)
    patients = [entry.get("patient", entry["image"]) for entry in read_datalist(args.datalist)[section]]
    return [item["image"] for item in items], patients, np.array([item["label"] for item in items], dtype=float)


@torch.no_grad()
def encode(model: Any, paths: Sequence[str]) -> tuple[torch.Tensor, np.ndarray]:
    """Unit vectors (N, D) and pooled features (N, C)."""
    embed, vectors, features = model.network.image_embedder(), [], []
    with eval_mode(model.network):
        for batch in model.load_images(paths):
            vectors.append(embed(batch).cpu())
            features.append(model.network.image_encoder(batch).pooled.cpu())
    return torch.cat(vectors), torch.cat(features).numpy()


def choose(
    way: str, vectors: torch.Tensor, texts: torch.Tensor, labeled: list[int], count: int, probe: Any
) -> list[int]:
    """`count` more rows of the pool."""
    free = [row for row in range(len(vectors)) if row not in set(labeled)]
    if way == "diversity":
        return k_center(vectors, labeled, count)
    if way == "text":  # the nearest image of each finding's name in turn
        chosen: list[int] = []
        order = (vectors @ texts.T).argsort(0, descending=True).T.tolist()
        while len(chosen) < count:
            taken = {*labeled, *chosen}
            chosen.append(next(row for row in order[len(chosen) % len(order)] if row not in taken))
        return chosen
    if way == "uncertainty" and probe is not None:
        p = np.nan_to_num(probe, nan=0.5).clip(1e-6, 1 - 1e-6)
        entropy = torch.from_numpy(-(p * np.log(p) + (1 - p) * np.log(1 - p)).mean(1)).float()
        chosen = []
        for _ in range(count):
            rows = [row for row in free if row not in chosen]
            score = mix_scores(entropy[rows], novelty(vectors, [*labeled, *chosen])[rows], 0.5)
            chosen.append(rows[int(score.argmax())])
        return chosen
    if way == "uncertainty":  # nothing is known yet
        return k_center(vectors, labeled, count)
    return list(np.random.default_rng(len(labeled) * 1000 + labeled[0]).permutation(free)[:count])


def simulate(way: str, seed: int, pool: dict[str, Any], test: dict[str, Any], budgets: Sequence[int]) -> list[dict]:
    """The figures after each budget."""
    labeled = [int(np.random.default_rng(seed).integers(len(pool["labels"])))]
    probe, rows = None, []
    for budget in budgets:
        labeled += choose(way, pool["vectors"], pool["texts"], labeled, budget - len(labeled), probe)
        fitted = fit_linear_probe(
            pool["features"][labeled], pool["labels"][labeled], [pool["patients"][row] for row in labeled], seed=seed
        )
        scores, probe = fitted(test["features"]), fitted(pool["features"])
        aurocs = [
            0.5 if np.isnan(score).any() else roc_auc_score(truth, score)
            for score, truth in zip(scores.T, test["labels"].T, strict=True)
        ]
        positives = pool["labels"][labeled].sum(0).mean()
        rows.append({"budget": budget, "auroc": float(np.mean(aurocs)), "positives": float(positives)})
    return rows


def precision(name: str, vectors: torch.Tensor, text: torch.Tensor, truth: np.ndarray) -> str:
    best = (vectors @ text).argsort(descending=True)[:10].numpy()
    return f"| {name} | {truth[best].mean():.1f} | {truth.mean():.2f} |"


def format_interval(values: Sequence[float], digits: int = 3) -> str:
    mean, low, high = mean_interval(values)
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def report(figures: dict[tuple[str, int], dict[int, list[dict]]], budgets: Sequence[int], seeds: int) -> None:
    print("\n| labels | choice | mean AUROC | against random | positives a finding |\n|---|---|---|---|---|")
    for budget in budgets:
        of = {way: [np.mean([r["auroc"] for r in figures[way, budget][s]]) for s in range(seeds)] for way in WAYS}
        for way in WAYS:
            found = [np.mean([r["positives"] for r in figures[way, budget][s]]) for s in range(seeds)]
            difference = format_interval(np.subtract(of[way], of["random"])) if way != "random" else ""
            print(f"| {budget} | {way} | {format_interval(of[way])} | {difference} | {np.mean(found):.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset-dir", type=Path, required=True)
    parser.add_argument("--datalist", type=Path, required=True, help="with labels; no label at all is a normal chest")
    parser.add_argument("--normal", type=Path, help="datalist of the same images whose one class is the normal chest")
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="folders with model_pretrain.pt")
    parser.add_argument("--queries", nargs="+", default=["Cardiomegaly", "Pleural Effusion"], help="names of classes")
    parser.add_argument("--budgets", type=int, nargs="+", default=[25, 50, 100])
    parser.add_argument("--seeds", type=int, default=5, help="0 for the queries alone")
    args = parser.parse_args()

    classes = class_names(args.datalist, "classification")
    (paths, patients, labels), (test_paths, _, test_labels) = load(args, "training"), load(args, "validation")
    normal = None
    if args.normal:
        normal = [
            item["label"][0] for item in load_labeled(args.normal, "validation", "classification", args.dataset_dir)
        ]
    figures: dict = defaultdict(lambda: defaultdict(list))
    print("| query, encoder | precision@10 | chance |\n|---|---|---|")
    for run in args.runs:
        model = load_pretrained(run / "model_pretrain.pt")
        (vectors, features), (test_vectors, test_features) = encode(model, paths), encode(model, test_paths)
        for name in args.queries:
            truth = test_labels[:, classes.index(name)] == 1
            for query in (name.lower(), f"there is {name.lower()}"):
                print(precision(f"{query}, {run.name}", test_vectors, model.embed_texts([query])[0].cpu(), truth))
        if normal:
            text = model.embed_texts([NORMAL])[0].cpu()
            print(precision(f"{NORMAL}, {run.name}", test_vectors, text, np.array(normal) == 1))
        texts = model.embed_texts([name.lower() for name in classes]).cpu()
        pool = {"vectors": vectors, "features": features, "labels": labels, "patients": patients, "texts": texts}
        test = {"features": test_features, "labels": test_labels}
        for way in WAYS:
            for seed in range(args.seeds):
                for row in simulate(way, seed, pool, test, args.budgets):
                    figures[way, row["budget"]][seed].append(row)
    if args.seeds:
        report(figures, args.budgets, args.seeds)


if __name__ == "__main__":
    main()
