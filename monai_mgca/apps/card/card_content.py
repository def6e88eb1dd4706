# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What the page about a model shows: settings, pairs of image and report, zero-shot figures, regions."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from monai_mgca.apps.ground.region import AnyRegion
from monai_mgca.apps.known_labels import known_labels
from monai_mgca.apps.zero_shot.zero_shot_classifier import ZeroShotClassifier
from monai_mgca.data.entry import Entry
from monai_mgca.data.image_item import path_of
from monai_mgca.metrics import compute_classification, compute_zero_shot, measure_decisions
from monai_mgca.metrics.bootstrap import with_intervals
from monai_mgca.metrics.retrieval import own_ranks
from monai_mgca.weights import read_model_settings

__all__ = [
    "Pair",
    "best_and_worst",
    "choose_regions",
    "describe_settings",
    "measure_zero_shot",
    "rank_pairs",
    "shown_names",
]

BOOTSTRAP = 1000


def describe_settings(checkpoint: str | os.PathLike) -> dict[str, str]:
    """The settings of a pretraining for people; of a path, which reveals the machine, the last part alone.

    Args:
        checkpoint: with ``model.json`` in the same folder.

    Raises:
        CheckpointError: when there is no ``model.json``, or it is not JSON.

    Example::

        Path("model.json").write_text('{"report_encoder": "/data/weights/bert"}')
        print(describe_settings("model_pretrain.pt"))  # {'weights': 'model_pretrain.pt', 'report encoder': 'bert'}
    """
    settings = {"weights": Path(checkpoint).name, **read_model_settings(checkpoint, required=True)}
    if (source := settings.pop("report_encoder_source", None)) is not None:
        settings["report_encoder"] = source  # of which there is a copy beside the weights
    if isinstance(steps := settings.get("preprocessing"), list):
        settings["preprocessing"] = ", ".join(str(step.get("_target_")).rpartition(".")[2] for step in steps)
    words = {True: "yes", False: "no", None: "all"}
    return {
        name.replace("_", " "): words[value]
        if value is None or isinstance(value, bool)
        else re.split(r"[\\/]", str(value).rstrip("\\/"))[-1]
        for name, value in settings.items()
    }


def shown_names(entries: Sequence[Entry]) -> list[str]:
    """The number of each entry and, unless the name reveals the patient's id or its number, the image's file name.

    Args:
        entries: with "image" and perhaps "patient".

    Example::

        entries = [{"image": "/data/1_a.png", "patient": "P7"}, {"image": "/data/0007_b.png", "patient": "P7"}]
        print(shown_names(entries))  # ['no. 1, 1_a.png', 'no. 2']
    """
    names = []
    for number, entry in enumerate(entries, 1):
        name, patient = os.path.basename(entry["image"]), str(entry.get("patient") or "")
        digits = re.sub(r"\D", "", patient).lstrip("0")
        reveals = patient.lower() in name.lower() or digits in {run.lstrip("0") for run in re.findall(r"\d+", name)}
        names.append(f"no. {number}" if patient and reveals else f"no. {number}, {name}")
    return names


class Pair(NamedTuple):
    """An image and its own report."""

    row: int  # of the set
    similarity: float  # cosine
    rank: int  # of the report among all, for the image; 1 is the first


def rank_pairs(image: torch.Tensor, report: torch.Tensor, report_tokens: torch.Tensor) -> list[Pair]:
    """All pairs of a set, the most similar first.

    Args:
        image: (N, D) unit vectors.
        report: (N, D) unit vectors.
        report_tokens: (N, L) token ids of the reports, by which those that are the same are known.

    Example::

        unit = torch.eye(3)
        print(rank_pairs(unit, unit, torch.arange(3)[:, None])[0])  # Pair(row=0, similarity=1.0, rank=1)
    """
    similarity = (image * report).sum(1).tolist()
    ranks = own_ranks(image, report, report_tokens).tolist()
    pairs = [Pair(*values) for values in zip(range(len(ranks)), similarity, ranks, strict=True)]
    return sorted(pairs, key=lambda pair: -pair.similarity)


def best_and_worst(pairs: Sequence[Pair], count: int = 10) -> tuple[list[Pair], list[Pair]]:
    """The first and the last of some pairs, the last one first; none is both.

    Args:
        pairs: of :func:`rank_pairs`.
        count: of each, at most.

    Example::

        print(best_and_worst([Pair(i, 0.9 - i, 1) for i in range(5)], count=1)[1])  # [Pair(row=4, ...
    """
    count = min(count, len(pairs) // 2)
    return list(pairs[:count]), list(pairs[len(pairs) - count :][::-1])


def measure_zero_shot(
    classify: ZeroShotClassifier, embedding: torch.Tensor, entries: Sequence[Entry], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """How well texts alone classify each finding: AUROC and its 95 % interval by bootstrap over the images.

    Args:
        classify: of some of the classes.
        embedding: (N, D) unit vectors of the images.
        entries: N entries, whose "labels" are 1, 0, -1 (uncertain, left out) or None (unknown) for each class.
        classes: names of the labels.

    Returns:
        A row for each finding and for the mean: "finding", "present" and "absent" (numbers of images; None for the
        mean), "auroc", "low", "high"; nan where the labels have one value only. Of a calibrated finding also "ece" and
        "threshold", and "sensitivity" and "specificity" there, each with its interval: (value, low, high).

    Raises:
        DataError: when the labels do not fit the classes.

    Example::

        model = load_pretrained("bundles/mgca/models/model_pretrain.pt")
        classify = ZeroShotClassifier(model, "bundles/mgca/configs/prompts.json", ["effusion"])
        entries = [{"image": "1.png", "labels": [1]}, {"image": "2.png", "labels": [0]}]
        print(measure_zero_shot(classify, model.embed_images(["1.png", "2.png"]), entries, ["effusion"])[0]["auroc"])
    """
    truth = known_labels(entries, classes, classify.classes)
    scores = classify.classify(embedding.to(classify.positive)).double().cpu().numpy()
    figures = compute_classification(scores, truth, classify.classes, bootstrap=BOOTSTRAP)
    counts = [{"present": int((column == 1).sum()), "absent": int((column == 0).sum())} for column in truth.T]
    keys = (f"auroc_{name.replace(' ', '_')}" for name in classify.classes)
    rows: list[tuple[str, str, dict[str, Any]]] = [*zip(classify.classes, keys, counts, strict=True)]
    rows.append(("mean", "mean_auroc", {"present": None, "absent": None}))
    return [
        {"finding": name, **count, "auroc": figures[key], "low": figures[f"{key}_low"], "high": figures[f"{key}_high"]}
        | _decisions(classify, name, scores, truth)
        for name, key, count in rows
    ]


def _decisions(classify: ZeroShotClassifier, name: str, scores: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """What calibrated probabilities of a finding are worth; empty of others."""
    if name not in classify.thresholds:
        return {}
    column, threshold = classify.classes.index(name), classify.thresholds[name]
    known = ~np.isnan(truth[:, column])
    score, label = scores[known, column], truth[known, column]
    if len(set(label)) < 2:
        return {}
    ece = compute_zero_shot(score[:, None], label[:, None], ["finding"])["ece_finding"]
    found = with_intervals(lambda w: measure_decisions(score >= threshold, label, w), len(label), BOOTSTRAP)
    rates = {key: (found[key], found[f"{key}_low"], found[f"{key}_high"]) for key in ("sensitivity", "specificity")}
    return {"ece": ece, "threshold": threshold, **rates}


def choose_regions(regions: Sequence[AnyRegion], count: int) -> list[AnyRegion]:
    """The first regions of each finding in turn, no image twice.

    Args:
        regions: to choose of.
        count: of what is chosen, at most.

    Example::

        from monai_mgca.apps.ground.region import Region

        regions = [Region(f"{i}.png", name, name, torch.ones(8, 8)) for i, name in enumerate(("mass", "mass", "edema"))]
        print([region.name for region in choose_regions(regions, 2)])  # ['mass', 'edema']
    """
    seen: Counter[str] = Counter()
    turns = []
    for region in regions:
        turns.append((seen[region.name], region))
        seen[region.name] += 1
    chosen: dict[str, AnyRegion] = {}
    for _, region in sorted(turns, key=lambda turn: turn[0]):
        if len(chosen) < count:
            chosen.setdefault(path_of(region.image), region)
    return list(chosen.values())
