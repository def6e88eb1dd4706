# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Embeds a set, searches it, and writes what was found: what ``mgca retrieve`` does."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from monai_mgca.apps.choose_data import choose_data
from monai_mgca.apps.image_text_model import PretrainedModel, load_pretrained
from monai_mgca.apps.load_images import find_below, refuse_missing
from monai_mgca.apps.retrieve.embedding_index import EmbeddingIndex
from monai_mgca.data import load_datalist, read_datalist
from monai_mgca.data.entry import SECTIONS, Entry
from monai_mgca.data.image_item import image_of
from monai_mgca.data.paths import find_dataset_dir
from monai_mgca.io.csv_file import write_csv
from monai_mgca.io.embedding_file import fingerprint_of, read_embeddings, write_embeddings
from monai_mgca.metrics.retrieval import chance_retrieval, compute_retrieval
from monai_mgca.options import bundle_root
from monai_mgca.utils import DataError
from monai_mgca.utils.console import say, visible
from monai_mgca.utils.extras import require_extra
from monai_mgca.visualize.gallery import Hit, Ranking, public_names, write_gallery
from monai_mgca.weights import read_model_settings

__all__ = ["retrieve"]

COLUMNS = ("query", "rank", "similarity", "image")
KS = (1, 5, 10)
SHORT = 100
STRIP = (
    "Each volume is shown by three planes, through its first box if it has one, with the patient's right side on the "
    "left. The small picture holds its axial slices: scroll there, or click it and press the arrow keys."
)


class _Set(NamedTuple):
    entries: list[Entry]
    images: list[str]  # paths
    names: list[str]  # the same in the dataset folder
    reports: list[str]  # one an image; none where one of them has none
    patients: list[str]  # one an image, empty where none is known
    origin: str  # the sections, or the folder


def _load(args: argparse.Namespace) -> _Set:
    wants_reports = args.evaluate or args.target == "reports"
    if args.images:
        if wants_reports:
            raise DataError(
                "A folder of images has no reports: give a --datalist, or look for images by --target images."
            )
        base, origin, entries = args.images, args.images, find_below(args.images, args.spatial_dims)
    else:
        choose_data(args, args.checkpoint)
        document = read_datalist(args.datalist)
        sections = args.sections or [section for section in SECTIONS if document.get(section)] or ["training"]
        base, origin, entries = find_dataset_dir(args.datalist, args.dataset_dir), ", ".join(sections), []
        for section in sections:
            entries += load_datalist(args.datalist, section, args.dataset_dir, report=wants_reports)
    images = [entry["image"] for entry in entries]
    reports = [str(entry.get("report") or "") for entry in entries]
    whole = all(report.strip() for report in reports)
    names = [os.path.relpath(image, base) for image in images]
    # in a folder without a datalist a patient's images lie together
    patients = [str(entry.get("patient") or os.path.dirname(n)) for entry, n in zip(entries, names, strict=True)]
    return _Set(entries, images, names, reports if whole else [], patients, origin)


def _embed(model: PretrainedModel, data: _Set, args: argparse.Namespace) -> dict[str, np.ndarray]:
    """The embeddings of the whole set, from the file of an earlier run if they are the same."""
    path = Path(args.output) / ("embeddings_random.npz" if args.random else "embeddings.npz")
    content: list[Any] = [args.random, data.names, list(map(_state, data.images)), data.reports]
    if told := [image for image in map(image_of, data.entries) if not isinstance(image, str)]:
        content.append(told)  # what the datalist says of the values in the files
    fingerprint = fingerprint_of([args.checkpoint, Path(args.checkpoint).parent / "model.json"], content)
    found = read_embeddings(path, fingerprint)
    if found is not None:
        say(f"Embeddings of {len(data.images)} images, computed earlier: {path}")
        return found
    arrays = {"image": model.embed_images(data.entries).numpy(), "names": np.char.encode(data.names, "utf-8")}
    if data.reports:
        arrays["report"] = model.embed_reports(data.reports).numpy()
    write_embeddings(path, arrays, fingerprint)
    kinds = "images and reports" if data.reports else "images"
    say(f"Embeddings of {len(data.images)} {kinds}: {path}")
    return arrays


def _state(image: str) -> tuple[int, int]:
    """What changes when an image does: its size and time; of a series those of its files together."""
    files = [image, *map(str, Path(image).iterdir())] if os.path.isdir(image) else [image]
    states = [os.stat(file) for file in files]
    return sum(state.st_size for state in states), max(state.st_mtime_ns for state in states)


def _search(
    model: PretrainedModel, data: _Set, arrays: dict[str, np.ndarray], args: argparse.Namespace
) -> list[Ranking]:
    """The results of every query; an image is not found by itself."""
    queries = [model.embed_texts([text]) for text in args.text]
    if args.image:
        queries.append(model.embed_images(args.image).to(model.device))
    index = EmbeddingIndex(arrays[args.target.removesuffix("s")], args.backend)
    scores, rows = index.search(torch.cat(queries), args.top + (args.target == "images"))
    rankings = []
    for number, (query, *found) in enumerate(
        zip([*args.text, *args.image], scores.tolist(), rows.tolist(), strict=True)
    ):
        image = query if number >= len(args.text) else None
        hits = []
        for score, row in zip(*found, strict=True):
            if args.target == "images" and image is not None and os.path.samefile(image, data.images[row]):
                continue
            report = data.reports[row] if args.with_text and data.reports else ""
            hits.append(Hit(score, data.images[row], data.names[row], report))
        rankings.append(Ranking(query, hits[: args.top], image))
    return rankings


def _print(rankings: Sequence[Ranking], target: str) -> None:
    for ranking in rankings:
        say(f"\n{target.capitalize()} most like {visible(ranking.query) if ranking.image else repr(ranking.query)}:")
        say(f"{'rank':>4s}  {'similarity':>10s}  {'image' if target == 'images' else 'report of image'}")
        for rank, hit in enumerate(ranking.hits, 1):
            say(f"{rank:4d}  {hit.similarity:10.3f}  {visible(hit.name)}")
            if hit.report:
                say(f"{'':18s}{hit.report[:SHORT]}{'...' if len(hit.report) > SHORT else ''}")


def _free_paths(folder: str) -> tuple[str, str]:
    """Where the table and the page go: beside those of earlier queries, with the next number."""
    for number in itertools.count(1):
        end = "" if number == 1 else f"_{number}"
        table, page = os.path.join(folder, f"results{end}.csv"), os.path.join(folder, f"gallery{end}.html")
        if not (os.path.exists(table) or os.path.exists(page)):
            break
    return table, page


def _shown(rankings: Sequence[Ranking], data: _Set) -> list[Ranking]:
    """The results for a page that is passed to others: no folder that reveals the machine or the patient."""
    shown = dict(zip(data.images, public_names(data.names, data.patients), strict=True))
    real = {os.path.realpath(image): name for image, name in shown.items()}
    entries: dict[str, Any] = dict(zip(data.images, data.entries, strict=True))
    found: dict[str, dict[str, Any]] = {
        image: {"name": name, "image": image_of(entries[image]), "boxes": entries[image].get("boxes") or ()}
        for image, name in shown.items()
    }
    return [
        Ranking(
            f"Like {real.get(os.path.realpath(r.image), os.path.basename(r.image))}" if r.image else r.query,
            [dataclasses.replace(hit, **found[str(hit.image)]) for hit in r.hits],
            r.image,
        )
        for r in rankings
    ]


def _write(rankings: Sequence[Ranking], data: _Set, args: argparse.Namespace, settings: Mapping[str, Any]) -> list[str]:
    """Write the table and the page, and return their paths."""
    table, page = _free_paths(args.output)
    rows: list[list] = [[*COLUMNS, *(["report"] if args.with_text else [])]]
    for ranking in rankings:
        for rank, hit in enumerate(ranking.hits, 1):
            row = [ranking.query, rank, f"{hit.similarity:.6f}", hit.name]
            rows.append([*row, *([hit.report] if args.with_text else [])])
    write_csv(table, rows)
    notes = [f"The nearest of {len(data.images)} {args.target} by cosine similarity, best first. For research only."]
    if args.target == "reports":
        notes.append("A picture is the image that the report was written about.")
    if settings.get("spatial_dims") == 3:
        notes.append(STRIP)
    notes.append(f"{os.path.basename(table)} beside this page has the paths.")
    title = f"{args.target.capitalize()} by similarity"
    write_gallery(page, title, _shown(rankings, data), notes, settings)
    return [table, page]


def _evaluate(model: PretrainedModel, data: _Set, arrays: dict[str, np.ndarray]) -> str:
    """The table of the recalls and median ranks both ways, with chance below."""
    tokens = model.report_tokens(data.reports)
    image, report = (torch.from_numpy(np.array(arrays[name])) for name in ("image", "report"))
    figures = compute_retrieval(image, report, tokens, KS) | chance_retrieval(tokens, KS)
    lines = [
        f"Retrieval among {len(tokens)} pairs ({data.origin}):",
        f"{'':16s}" + "".join(f"{f'R@{k}':>8s}" for k in KS) + "  median rank",
    ]
    for name in ("image_to_report", "report_to_image", "chance"):
        recalls = "".join(f"{figures[f'{name}_recall_at_{k}']:8.3f}" for k in KS)
        lines.append(f"{name.replace('_', ' '):16s}{recalls}{figures[f'{name}_median_rank']:13g}")
    return "\n".join(lines)


def retrieve(args: argparse.Namespace) -> list[str]:
    """Embed a set, search it by texts and images, and measure the retrieval of pairs.

    Args:
        args: of ``mgca retrieve``.

    Returns:
        The paths of the table and the page of the queries; none where only figures were asked for.

    Raises:
        DataError: when the options or the data do not fit.
        CheckpointError: when the weights cannot be read.
    """
    root = bundle_root()
    args.checkpoint = args.checkpoint or f"{root}/models/model_pretrain.pt"
    args.output = args.output or f"{root}/eval/retrieval"
    if not (args.text or args.image or args.evaluate):
        raise DataError('Nothing to look for: give --text "left pleural effusion", --image FILE or --evaluate.')
    if args.backend == "faiss":
        require_extra("faiss", "--backend faiss")
    if args.top < 1:
        raise DataError(f"--top must be 1 or more, got {args.top}.")
    args.spatial_dims = read_model_settings(args.checkpoint).get("spatial_dims", 2)
    refuse_missing(args.image, args.spatial_dims)
    torch.manual_seed(0)
    model = load_pretrained(args.checkpoint, random=args.random)
    for text in args.text:  # before the long work
        model.read_text(text)
    data = _load(args)
    arrays = _embed(model, data, args)
    written = []
    if args.text or args.image:
        rankings = _search(model, data, arrays, args)
        _print(rankings, args.target)
        written = _write(rankings, data, args, model.settings)
    if args.evaluate:
        say(_evaluate(model, data, arrays))
    return written
