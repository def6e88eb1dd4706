# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Joins a table of probabilities with the groups of a datalist, and measures each group: what ``mgca groups`` does."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_mgca.apps.figure_text import figure_text
from monai_mgca.apps.known_labels import known_labels
from monai_mgca.data import class_names, load_datalist
from monai_mgca.data.entry import Entry
from monai_mgca.data.sources.tables.rows import read_rows
from monai_mgca.io.csv_file import write_csv
from monai_mgca.metrics.subgroups import age_bands, compute_subgroups
from monai_mgca.utils import DataError
from monai_mgca.utils.console import name_some, say
from monai_mgca.visualize.plot_groups import draw_groups

__all__ = ["measure_groups", "names_of_groups", "read_scores"]

KINDS = ("auroc", "sensitivity", "specificity")
COLUMNS = ("finding", "by", "group", "images", "present", *(k + e for k in KINDS for e in ("", "_low", "_high")), "ks")


def read_scores(path: str | os.PathLike, entries: Sequence[Entry], base: str | os.PathLike) -> dict[str, np.ndarray]:
    """The probabilities of each finding, in the order of the entries.

    Args:
        path: a CSV table with the column "image", absolute or relative to ``base``, and one a finding.
        entries: N, with absolute paths.
        base: folder of the images.

    Returns:
        (N,) numbers by finding.

    Raises:
        DataError: when the table cannot be read, a cell is no number, or an entry's image is not in it, naming it.

    Example::

        with open("probabilities.csv", "w") as file:
            file.write("image,edema\\n1.png,0.8\\n")
        print(read_scores("probabilities.csv", [{"image": "/data/1.png"}], "/data"))  # {'edema': array([0.8])}
    """
    rows = {os.path.realpath(os.path.join(base, row["image"])): row for row in read_rows(path, ["image"])}
    wanted = [os.path.realpath(entry["image"]) for entry in entries]
    missing = [os.path.relpath(image, base) for image in wanted if image not in rows]
    if missing:
        raise DataError(
            f"{path} lacks {len(missing)} of {len(wanted)} images of the section: {name_some(missing)}. Make the table "
            "of this datalist and section, or give --section."
        )
    scores = {}
    for name in [column for column in next(iter(rows.values()), {}) if column != "image"]:
        try:
            scores[name] = np.array([float(rows[image][name]) for image in wanted])
        except ValueError:
            continue  # a column of words
    return scores


def names_of_groups(entries: Sequence[Entry], by: str, edges: Sequence[float]) -> list[str | None]:
    """The group of each entry, None where it is not known.

    Args:
        entries: with "groups", or the name itself as a key, as "view".
        by: a name, or several joined by "+". Numbers are ages and come into bands.
        edges: of the bands.

    Raises:
        DataError: when no entry has such a group.

    Example::

        print(names_of_groups([{"image": "1.png", "groups": {"sex": "F", "age": 70}}], "sex+age", [65]))  # ['F 65+']
    """
    parts = []
    for name in by.split("+"):
        values: list[Any] = [(entry.get("groups") or {}).get(name, entry.get(name)) for entry in entries]
        if all(value is None for value in values):
            there = sorted({key for entry in entries for key in entry.get("groups") or ()})
            raise DataError(
                f"--by {name}: no entry of the section has it; there is {', '.join(there) or 'nothing'}. Make the "
                f"datalist with `mgca data csv ... --group {name}`."
            )
        if all(isinstance(value, (int, float)) for value in values if value is not None):
            values = list(age_bands(values, edges))
        parts.append(values)
    return [None if None in some else " ".join(map(str, some)) for some in zip(*parts, strict=True)]


def _rows(
    args: argparse.Namespace, entries: Sequence[Entry], scores: dict[str, np.ndarray], labels: np.ndarray
) -> Iterator[dict[str, Any]]:
    for by in args.by:
        groups = names_of_groups(entries, by, args.age_bands)
        for column, name in zip(labels.T, scores, strict=True):
            found = compute_subgroups(scores[name], column, groups, args.threshold, args.minimum, args.bootstrap)
            hidden = found.pop("hidden")
            for group, figures in found.items():
                yield {"finding": name, "by": by, "group": group, "hidden": hidden, **figures}


def measure_groups(args: argparse.Namespace) -> list[str]:
    """Measure an evaluation's probabilities in groups, print the figures, and write and draw them.

    Args:
        args: of ``mgca groups``.

    Returns:
        The paths of the table and the drawing.

    Raises:
        DataError: when the options or the data do not fit.
    """
    if args.datalist is None and args.dataset_dir is None:
        raise DataError("Give --dataset-dir, the folder of images with their datalist.json, or --datalist.")
    if sorted(set(args.age_bands)) != args.age_bands or args.age_bands[0] <= 0:
        raise DataError(f"--age-bands must be ascending and more than 0, got {args.age_bands}.")
    args.datalist = args.datalist or os.path.join(args.dataset_dir, "datalist.json")
    base = args.dataset_dir or os.path.dirname(os.path.abspath(args.datalist))
    entries = load_datalist(args.datalist, args.section, base, report=False)
    classes = class_names(args.datalist, "classification")
    scores = read_scores(args.scores, entries, base)
    chosen = args.classes or [name for name in classes if name in scores]
    if unknown := [name for name in chosen if name not in scores or name not in classes]:
        raise DataError(f"--classes {name_some(unknown)}: both {args.scores} and {args.datalist} must have it.")
    if not chosen:
        raise DataError(f"{args.scores} has none of the findings of {args.datalist}: {', '.join(classes)}.")
    labels = known_labels(entries, classes, chosen)
    rows = list(_rows(args, entries, {name: scores[name] for name in chosen}, labels))
    say(f"{len(entries)} images ({args.section}), threshold {args.threshold:g}, 95 % intervals in brackets:")
    say(_table(rows))
    if any(row["hidden"]["groups"] for row in rows):
        say(f"Groups of fewer than {args.minimum} images with a known label are not shown.")
    write_csv(args.output, [COLUMNS, *([_cell(row.get(key)) for key in COLUMNS] for row in rows)])
    picture = str(Path(args.output).with_suffix(".png"))
    draw_groups(picture, rows)
    return [args.output, picture]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.6g}"
    return "" if value is None else str(value)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    heads = ("images", "present", *KINDS, "KS p")
    lines = [f"{'finding':20s} {'group':18s}" + "".join(f"{h:>{9 if i < 2 else 21}s}" for i, h in enumerate(heads))]
    for row in rows:
        group = f"{row['by']}: {row['group']}"
        counts = [f"{row[key]:.0f}" if key in row else "" for key in ("images", "present")]
        figures = [figure_text(row, kind) for kind in KINDS] + [f"{row['ks']:.3f}" if "ks" in row else ""]
        cells = "".join(f"{c:>9s}" for c in counts) + "".join(f"{c:>21s}" for c in figures)
        lines.append(f"{row['finding'][:20]:20s} {group[:18]:18s}{cells}".rstrip())
    return "\n".join(lines)
