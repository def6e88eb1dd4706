# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""SIIM-ACR Pneumothorax Segmentation: radiographs with run-length coded masks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from monai.utils import look_up_option

from monai_mgca.data.sources.collection import Collection
from monai_mgca.data.sources.stored_sizes import read_sizes
from monai_mgca.data.sources.tables.rows import read_rows
from monai_mgca.io import list_files, quick_kind, stem_of
from monai_mgca.io.run_lengths import decode_siim, encode_rle
from monai_mgca.utils import DataError
from monai_mgca.utils.progress import progress_bar

__all__ = ["collect_siim_acr"]

ENCODINGS = ("auto", "relative", "absolute")


class _Row(NamedTuple):
    line: int
    image: str  # its id
    runs: str


def collect_siim_acr(
    dataset_dir: str | os.PathLike, table: str | os.PathLike | None = None, encoding: str = "auto"
) -> Collection:
    """Collect the SIIM-ACR pneumothorax data (Kaggle): masks as run lengths, and labels.

    The data does not say which images are of one patient: every image counts as its own.

    Args:
        dataset_dir: the folder of images, <ImageId>.dcm (or .png, .jpg), in any sub-folders.
        table: train-rle.csv or stage_2_train.csv: ImageId, EncodedPixels; several rows of an image are one mask, and
            -1 is none. Defaults to train-rle.csv in the dataset folder.
        encoding: whether a run's start counts from the end of the run before ("relative", the first stage's table) or
            from the first pixel ("absolute", the second's). "auto" takes the one in which every row makes sense.

    Raises:
        DataError: when the table or its column is not there, an image is there twice (as masks may bear its name), run
            lengths do not fit their image (by line), or "auto" finds that both encodings, or neither, fit all rows.
        ValueError: when `encoding` is another word.

    Example::

        collection = collect_siim_acr("siim-acr-pneumothorax")
        print(collection.write("dataset.json", fractions=(0.7, 0.15, 0.15)))
    """
    encoding = look_up_option(encoding, ENCODINGS)
    collection = Collection("siim_acr", dataset_dir, needs_report=False)
    collection.header = {"classes": ["pneumothorax"], "mask_classes": ["pneumothorax"]}
    collection.notes.append("the data names no patients: every image counts as its own, the split is by image")
    table = Path(table or Path(dataset_dir) / "train-rle.csv")
    rows = _read_table(table)
    path_of = _find_images(Path(dataset_dir), {row.image for row in rows})
    collection.drop("no image file", *sorted({row.image for row in rows} - set(path_of)))
    sizes = read_sizes(collection, sorted(path_of.values()))
    size_of = {image: size for image, path in path_of.items() if (size := sizes.get(path)) is not None}
    rows = [row for row in rows if row.image in size_of]
    relative = _is_relative(table, rows, size_of) if encoding == "auto" else encoding == "relative"
    collection.notes.append(f"run lengths: {'relative' if relative else 'absolute'} starts")
    rows_of: dict[str, list[_Row]] = {}
    for row in rows:
        rows_of.setdefault(row.image, []).append(row)
    for image, group in progress_bar(rows_of.items(), "drawing the masks", len(rows_of)):
        mask = np.zeros(size_of[image], dtype=np.uint8)
        for row in group:
            mask |= _decode(table, row, size_of[image], relative)
        collection.add(image, path_of[image], "", image, labels=[int(mask.any())], mask=encode_rle(mask))
    return collection


def _decode(table: Path, row: _Row, size: tuple[int, int], relative: bool) -> np.ndarray:
    try:
        return decode_siim(row.runs, *size, relative=relative)
    except DataError as error:
        raise DataError(f"{table} line {row.line}: {error}") from None


def _read_table(table: Path) -> list[_Row]:
    rows = []
    for line, raw in enumerate(read_rows(table, ("ImageId",)), start=2):
        row = {column.strip(): value.strip() for column, value in raw.items()}  # Kaggle writes " EncodedPixels"
        if "EncodedPixels" not in row:
            raise DataError(f"{table} has no column 'EncodedPixels'. The columns are: {', '.join(row)}.")
        rows.append(_Row(line, row["ImageId"], row["EncodedPixels"]))
    return rows


def _find_images(folder: Path, wanted: set[str]) -> dict[str, str]:
    """The images by their id, relative to the folder."""
    found: dict[str, str] = {}
    for path in (path for path in sorted(list_files(folder)) if stem_of(path.name) in wanted):
        if quick_kind(path):
            stem, name = stem_of(path.name), path.relative_to(folder).as_posix()
            if found.setdefault(stem, name) != name:  # which of them is the image, and which a mask?
                raise DataError(f"{folder} has {found[stem]} and {name}; give a folder with one file an image.")
    return found


def _is_relative(table: Path, rows: list[_Row], size_of: Mapping[str, tuple[int, int]]) -> bool:
    """Find the encoding in which every row makes sense: runs in order, apart, and inside the image."""
    misfit: dict[str, int] = {}  # encoding: the first line that it does not fit
    differ = False
    for row in rows:
        if row.runs == "-1":
            continue
        height, width = size_of[row.image]
        ends = {name: _ends(row.runs, name == "relative") for name in ("relative", "absolute")}
        differ = differ or len(row.runs.split()) > 2  # a single run is the same in both
        for name, last in ends.items():
            if last is None or last > height * width:
                misfit.setdefault(name, row.line)
    fitting = {"relative", "absolute"} - set(misfit)
    if len(fitting) == 1:
        return "relative" in fitting
    if fitting and not differ:
        return True
    if fitting:
        why = "every row makes sense with relative and with absolute starts"
    else:
        why = f"line {misfit['relative']} makes no sense with relative starts, line {misfit['absolute']} with absolute"
    raise DataError(f"{table}: {why}. Mend the table, or name the encoding (--encoding relative or absolute).")


def _ends(runs: str, relative: bool) -> int | None:
    """Where the last run ends; None where there are no such runs, or they are not in order and apart."""
    try:
        numbers = np.array([int(word) for word in runs.split()], dtype=np.int64)
    except (ValueError, OverflowError):
        return None
    if not len(numbers) or len(numbers) % 2 or (numbers < 0).any():
        return None
    starts, lengths = numbers[::2], numbers[1::2]
    if relative:
        return int(numbers.sum())
    return None if (starts[1:] < (starts + lengths)[:-1]).any() else int(starts[-1] + lengths[-1])
