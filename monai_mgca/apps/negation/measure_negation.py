# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Measures sentences against their negations, versions of reports, and what bare names find: ``mgca negation``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monai_mgca.apps.choose_data import choose_data
from monai_mgca.apps.figure_text import figure_text
from monai_mgca.apps.image_text_model import PretrainedModel, load_pretrained
from monai_mgca.apps.known_labels import known_labels
from monai_mgca.apps.negation.report_versions import compare_versions
from monai_mgca.apps.zero_shot.prompts import Prompts, find_prompts, prompted_classes, read_prompts
from monai_mgca.data import class_names, load_datalist
from monai_mgca.data.entry import Entry
from monai_mgca.io.csv_file import write_csv
from monai_mgca.metrics import compute_negation, compute_queries
from monai_mgca.options import bundle_root
from monai_mgca.utils import DataError
from monai_mgca.utils.console import say
from monai_mgca.visualize.plot_negation import draw_negation

__all__ = ["choose_pairs", "compare_sentences", "measure_negation"]

# what is shown of a finding: the figure's kind, and its title
KINDS = {
    "sentence_balanced_accuracy": "right sentence",
    "name_precision": "name: first ten",
    "sentence_precision": "sentence: first ten",
    "name_prevalence": "prevalence",
    "name_auroc": "name: AUROC",
}


def compare_sentences(
    model: PretrainedModel,
    image: torch.Tensor,
    labels: np.ndarray,
    pairs: Mapping[str, Prompts],
    bootstrap: int = 0,
) -> dict[str, float]:
    """What sentences, their negations and bare names say of images whose findings are known.

    Args:
        model: a pretrained one.
        image: (N, D) unit vectors of the images.
        labels: (N, C) of 0 and 1, nan where unknown.
        pairs: for each finding in turn sentences that state it and, in the same order, their negations; the first of
            the names is the bare one. Of several pairs the mean similarities count.
        bootstrap: number of replicates of the images.

    Returns:
        "sentence_KIND_FINDING" and "sentence_mean_KIND" of :func:`monai_mgca.metrics.compute_negation`, and of
        :func:`monai_mgca.metrics.compute_queries` "name_KIND_FINDING" and so on for the bare name and
        "sentence_precision_FINDING" for the sentences that state it.

    Example::

        model = load_pretrained("bundles/mgca/models/model_pretrain.pt")
        pairs = {"edema": Prompts(("there is edema",), ("there is no edema",), ("edema",))}
        print(compare_sentences(model, model.embed_images(["1.png"]), np.ones((1, 1)), pairs))
    """
    names = list(pairs)

    def similarity(texts: Sequence[Sequence[str]]) -> np.ndarray:
        """(N, C), to the mean of each finding's texts."""
        vectors = torch.stack([model.embed_texts(some).float().cpu().mean(0) for some in texts])
        return (image.float() @ vectors.T).double().numpy()

    stated = similarity([own.positive for own in pairs.values()])
    denied = similarity([own.negative for own in pairs.values()])
    called = similarity([own.names[:1] or [name] for name, own in pairs.items()])
    sentence = compute_negation(stated - denied, labels, names, bootstrap)
    query = compute_queries(called, labels, names, bootstrap=bootstrap)
    asked = compute_queries(stated, labels, names, bootstrap=bootstrap)
    return {
        **{f"sentence_{key}": value for key, value in sentence.items()},
        **{f"name_{key}": value for key, value in query.items()},
        **{f"sentence_{key}": value for key, value in asked.items() if "precision" in key},
    }


def choose_pairs(path: str, classes: Sequence[str]) -> dict[str, Prompts]:
    """The sentences and negations of a datalist's findings.

    Args:
        path: a JSON file as for :func:`monai_mgca.apps.zero_shot.prompts.read_prompts`, in which each text of
            "negative" denies the one of "positive" in its place.
        classes: of the datalist; those that the file does not know are reported in the log.

    Raises:
        DataError: as :func:`read_prompts`; when a finding has more texts on one side, naming it; when it has none of
            the classes.

    Example::

        with open("negation.json", "w") as file:
            file.write('{"edema": {"positive": ["there is edema"], "negative": ["there is no edema"]}}')
        print(list(choose_pairs("negation.json", ["edema"])))  # ['edema']
    """
    known = read_prompts(path)
    pairs = {name: find_prompts(known, name) for name in prompted_classes(path, classes)}
    chosen = {name: own for name, own in pairs.items() if own is not None}
    for name, own in chosen.items():
        if len(own.positive) != len(own.negative):
            raise DataError(
                f"{path}: finding '{name}' has {len(own.positive)} texts in 'positive' and {len(own.negative)} in "
                "'negative': write the negation of each, in the same order."
            )
    return chosen


def measure_negation(args: argparse.Namespace) -> list[str]:
    """Measure whether a pretrained model understands negation, print the figures, and write and draw them.

    Args:
        args: of ``mgca negation``.

    Returns:
        The paths of the table and the drawing.

    Raises:
        DataError: when the options or the data do not fit.
        CheckpointError: when the weights cannot be read.
    """
    root = bundle_root()
    args.checkpoint = args.checkpoint or f"{root}/models/model_pretrain.pt"
    args.output = args.output or f"{root}/eval/negation.csv"
    if args.bootstrap < 0:
        raise DataError(f"--bootstrap must be 0 or more, got {args.bootstrap}.")
    torch.manual_seed(0)
    model = load_pretrained(args.checkpoint, random=args.random)
    choose_data(args, args.checkpoint)
    classes = class_names(args.datalist, "classification")
    pairs = choose_pairs(args.pairs or f"{root}/configs/negation.json", classes)
    entries = load_datalist(args.datalist, args.section, args.dataset_dir, report=False)
    labels = known_labels(entries, classes, list(pairs))
    image = model.embed_images(entries)
    figures = compare_sentences(model, image, labels, pairs, args.bootstrap)
    reports = [str(entry["report"]) for entry in entries if entry.get("report")]
    versions = compare_versions(model, image, reports, args.bootstrap) if len(reports) == len(entries) else {}
    say(f"{len(entries)} images ({args.section}), {len(pairs)} findings, 95 % intervals in brackets:")
    say(_table(figures, list(pairs)))
    say(_versions(versions))
    write_csv(args.output, _rows(figures | versions))
    picture = str(Path(args.output).with_suffix(".png"))
    draw_negation(picture, figures, list(pairs), _present(entries, labels, pairs))
    return [args.output, picture]


def _present(entries: Sequence[Entry], labels: np.ndarray, names: Mapping[str, Any]) -> dict[str, int]:
    return {name: int((column == 1).sum()) for name, column in zip(names, labels.T, strict=True)}


def _table(figures: Mapping[str, float], names: Sequence[str]) -> str:
    """A line for each finding and the mean."""
    lines = [f"{'finding':20s}" + "".join(f"{title:>21s}" for title in KINDS.values())]
    for name in (*names, "mean"):
        keys = [f"{kind}_{name.replace(' ', '_')}" for kind in KINDS]
        if name == "mean":
            keys = [kind.replace("_", "_mean_", 1) for kind in KINDS]
        lines.append(f"{name[:20]:20s}" + "".join(f"{figure_text(figures, key):>21s}" for key in keys))
    return "\n".join(lines)


def _versions(versions: Mapping[str, float]) -> str:
    if not versions:
        return "Versions of reports are left out: not every entry has a report."
    opposite, omitted = (figure_text(versions, f"report_over_{kind}") for kind in ("opposite", "omitted"))
    return (
        f"Of {versions['sentences']:.0f} sentences of the reports {versions['opposites']:.0f} have an opposite. Nearer "
        f"to the report than with one of them turned into it: {opposite}; than without it: {omitted}."
    )


def _rows(figures: Mapping[str, float]) -> list[Sequence[Any]]:
    """Of the table: the figure, its value and the ends of its interval."""
    ends = ("_low", "_high")
    names = [name for name in figures if not name.endswith(ends)]
    cells = [[figures.get(f"{name}{end}", np.nan) for end in ("", *ends)] for name in names]
    return [
        ("figure", "value", "low", "high"),
        *([name, *("" if np.isnan(v) else f"{v:.6f}" for v in own)] for name, own in zip(names, cells, strict=True)),
    ]
