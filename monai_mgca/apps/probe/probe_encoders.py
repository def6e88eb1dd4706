# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Computes features, fits linear probes and measures them: what ``mgca probe`` does."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, Resized

from monai_mgca.apps.build_model import build_image_encoder, image_transform
from monai_mgca.apps.choose_data import choose_data
from monai_mgca.apps.labeled_set import LabeledSet, load_set
from monai_mgca.apps.load_images import image_batches
from monai_mgca.apps.probe.features import compute_features
from monai_mgca.apps.probe.linear_probe import fit_linear_probe
from monai_mgca.data import class_names
from monai_mgca.data.fraction import take_fraction
from monai_mgca.io.csv_file import write_csv
from monai_mgca.metrics import compute_classification
from monai_mgca.networks import ImageFeatures, WindowEncoder
from monai_mgca.options import bundle_root
from monai_mgca.transforms import default_preprocessing, describe_default, restore_preprocessing
from monai_mgca.utils import CheckpointError, DataError
from monai_mgca.utils.console import say
from monai_mgca.utils.extras import require_extra
from monai_mgca.visualize import draw_curves, summarize_curves
from monai_mgca.weights import load_encoder, read_model_settings

__all__ = ["probe"]

RANDOM = "random"
PIXELS = "pixels"
MEAN = "mean"
# the edge of the pixels: as many numbers as a fit takes
EDGES = {2: 32, 3: 16}
COLUMNS = ("encoder", "fraction", "seed", "images", "class", "auroc", "ap", "accuracy", "note")


def _settings(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What each encoder was made with, from the file beside it; random ones are as the first that has a file."""
    given = {"image_encoder": args.encoder, "image_size": args.image_size, "in_channels": args.in_channels}
    given = {key: value for key, value in given.items() if value is not None}
    settings = {}
    for checkpoint in sorted(args.checkpoint, key=lambda name: name == RANDOM):
        if checkpoint == PIXELS:
            settings[checkpoint] = {"image_size": EDGES[2], "in_channels": 1}
            continue
        own = Path(checkpoint).with_suffix(".json")
        if checkpoint != RANDOM and not Path(checkpoint).is_file():
            raise CheckpointError(f"There is no checkpoint file '{checkpoint}': check the path, or train one first.")
        found = read_model_settings(checkpoint, own.name if own.is_file() else "model.json")
        if checkpoint == RANDOM:
            found = next((s for name, s in settings.items() if name != PIXELS), {})
        settings[checkpoint] = {"image_size": 224, "in_channels": 1, **found, **given}
        if "image_encoder" not in settings[checkpoint]:
            raise CheckpointError(f"No model.json is beside '{checkpoint}': name the encoder, as --encoder resnet50.")
    return _of_one_kind(settings, args)


def _of_one_kind(settings: dict[str, dict[str, Any]], args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The same, of radiographs or of volumes alone, and the pixels are what these are."""
    of_encoders = [found for name, found in settings.items() if name != PIXELS]
    volumes = [found.get("spatial_dims", 2) == 3 for found in of_encoders]
    if any(volumes) and not all(volumes):
        raise DataError("--checkpoint names encoders of radiographs and of volumes: probe each kind by itself.")
    if any(volumes) and args.image_size is not None:
        raise DataError("--image-size is of radiographs: volumes are prepared as the encoder's training did it.")
    if any(volumes) and PIXELS in settings:
        settings[PIXELS] = {key: value for key, value in of_encoders[0].items() if key != "image_encoder"}
    args.spatial_dims = 3 if any(volumes) else 2
    return settings


class _Pixels(torch.nn.Module):
    """The image itself as its features: what an encoder must beat."""

    def forward(self, image: torch.Tensor) -> ImageFeatures:
        return ImageFeatures(image.flatten(1), image.flatten(2), None)


def _preprocessing(settings: dict[str, Any]) -> list[Any]:
    """What the training did to its images, where that is not what the bundle's pretraining does; else whole images."""
    size, channels, resize = settings["image_size"], settings["in_channels"], settings.get("resize_size")
    if settings.get("spatial_dims", 2) == 3:
        smaller = [Resized("image", [EDGES[3]] * 3, mode="area")] if "image_encoder" not in settings else []
        return [*image_transform(settings).transforms, *smaller]
    own = settings.get("preprocessing")
    if not own or (resize is not None and own == describe_default(size, channels, resize)):
        return default_preprocessing(size, channels)
    return restore_preprocessing(settings) or []


def _features(checkpoint: str, settings: dict[str, Any], seed: int, items: Sequence[dict[str, Any]]) -> np.ndarray:
    torch.manual_seed(seed)
    encoder: torch.nn.Module = _Pixels() if checkpoint == PIXELS else build_image_encoder(settings)
    if checkpoint not in (RANDOM, PIXELS):
        load_encoder(encoder, checkpoint)
    if checkpoint != PIXELS and settings.get("window_size"):
        encoder = WindowEncoder(encoder, settings["window_size"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with image_batches(items, Compose(_preprocessing(settings)), settings.get("spatial_dims", 2)) as batches:
        return compute_features(encoder, batches, device, f"features of {checkpoint}").numpy()


def _probe(
    train: LabeledSet, test: LabeledSet, settings: Mapping[str, dict[str, Any]], args: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """The rows of the table."""
    images = train.items + test.items
    for checkpoint in args.checkpoint:
        for seed in range(args.seeds):
            if seed == 0 or checkpoint == RANDOM:  # other random weights for each seed
                features = _features(checkpoint, settings[checkpoint], seed, images)
            for fraction in args.fractions:
                chosen = take_fraction(train.items, fraction, seed, _positives)
                for row in _measure(features, train, test, chosen, seed, args):
                    yield {"encoder": checkpoint, "fraction": fraction, "seed": seed, "images": len(chosen), **row}


def _positives(item: Mapping[str, Any]) -> tuple[int, ...]:
    # as load_labeled chooses by them, so that the same fraction and seed give the same images
    return tuple(index for index, value in enumerate(item["label"]) if value == 1)


def _measure(
    features: np.ndarray, train: LabeledSet, test: LabeledSet, chosen: list[dict], seed: int, args: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """A row for each class and the mean, of a fit to the chosen training images."""
    rows, exclusive = [item["row"] for item in chosen], args.label_mode == "multiclass"
    labels = train.labels[rows]
    fitted = fit_linear_probe(features[rows], labels, [item["patient"] for item in chosen], args.label_mode, seed)
    notes = _lacking(labels, args.classes, "training")
    if exclusive and notes:
        notes = dict.fromkeys(args.classes, "; ".join(f"{name}: {note}" for name, note in notes.items()))
    # a class that could not be fitted has no figure, and then there is no mean: it would be of other classes
    known = np.where([name in notes for name in args.classes], np.nan, test.labels)
    scores = np.nan_to_num(np.broadcast_to(fitted(features[len(train.items) :]), known.shape))
    figures = compute_classification(scores, known, args.classes, args.label_mode)
    whole = not notes
    notes = {**_lacking(test.labels, args.classes, args.section), **notes}
    for name in args.classes:
        values = {kind: figures[f"{kind}_{name.replace(' ', '_')}"] for kind in ("auroc", "ap")}
        yield {"class": name, **values, "note": notes.get(name, "")}
    names = {"auroc": "mean_auroc", "ap": "mean_ap", **({"accuracy": "accuracy"} if exclusive else {})}
    values = {kind: figures[name] if whole else np.nan for kind, name in names.items()}
    yield {"class": MEAN, **values, "note": "" if whole else "skipped: not every class could be fitted"}


def _lacking(labels: np.ndarray, classes: Sequence[str], place: str) -> dict[str, str]:
    """Classes without both values among the known labels, and why."""
    reasons = {}
    for name, column in zip(classes, labels.T, strict=True):
        words = [word for word, value in (("positive", 1), ("negative", 0)) if not (column == value).any()]
        if words:
            reasons[name] = f"skipped: no {' and no '.join(words)} in {place}"
    return reasons


def _table(rows: list[dict[str, Any]], classes: Sequence[str]) -> str:
    """AUROC, mean and 95 % interval over the seeds that have one."""
    lines = {(line["encoder"], line["fraction"], line["class"]): line for line in summarize_curves(rows)}
    names = [MEAN, *classes]
    text = [f"{'encoder':28s} {'labels':>7s} {'images':>7s}  " + "  ".join(f"{name[:20]:>20s}" for name in names)]
    for encoder, fraction in dict.fromkeys((row["encoder"], row["fraction"]) for row in rows):
        cells = [lines[encoder, fraction, name] for name in names]
        figures = "  ".join(f"{_cell(line):>20s}" for line in cells)
        text.append(f"{encoder[-28:]:28s} {fraction:7g} {cells[0]['images']:7d}  {figures}")
    notes = {(r["encoder"], r["fraction"], r["seed"], r["class"]): r["note"] for r in rows if r["note"]}
    text += [f"{e}, labels {f:g}, seed {s}, {name}: {note}" for (e, f, s, name), note in notes.items()]
    return "\n".join(text)


def _cell(line: dict[str, Any]) -> str:
    if not line["seeds"]:
        return "skipped"
    low, high = max(0, line["low"]), min(1, line["high"])  # no AUROC is beyond
    return f"{line['mean']:.3f}" + (f" [{low:.3f}, {high:.3f}]" if line["seeds"] > 1 else "")


def _write(path: str | os.PathLike, rows: list[dict[str, Any]]) -> None:
    table: list[Sequence[Any]] = [COLUMNS]
    for row in rows:
        figures = {key: row.get(key, np.nan) for key in ("auroc", "ap", "accuracy")}
        cells = row | {key: "" if np.isnan(v) else f"{v:.6f}" for key, v in figures.items()}
        table.append([cells.get(column, "") for column in COLUMNS])
    write_csv(path, table)


def probe(args: argparse.Namespace) -> list[str]:
    """Fit linear probes to the features of encoders, print their figures, and write the table and the drawing.

    Args:
        args: of ``mgca probe``.

    Returns:
        The paths of the table and the drawing.

    Raises:
        DataError: when the options or the data do not fit.
        CheckpointError: when the weights cannot be read.
    """
    require_extra("probe", "A linear probe")
    args.checkpoint = args.checkpoint or [f"{bundle_root()}/models/model.pt", RANDOM, PIXELS]
    settings = _settings(args)
    choose_data(args, args.checkpoint[0])
    args.classes = args.classes or class_names(args.datalist, "classification")
    train, test = (load_set(args, section) for section in ("training", args.section))
    rows = list(_probe(train, test, settings, args))
    _write(args.output, rows)
    picture = str(Path(args.output).with_suffix(".png"))
    draw_curves(picture, summarize_curves(rows))
    say(f"AUROC on {len(test.items)} images ({args.section}), mean and 95 % interval over {args.seeds} seeds:")
    say(_table(rows, args.classes))
    return [args.output, picture]
