# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""How a built-in sample gets into its folder, or is found there: what radiographs and volumes share."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_mgca.data.datalist import read_datalist, write_datalist
from monai_mgca.data.entry import Entry, places_of
from monai_mgca.data.paths import file_problem
from monai_mgca.data.split import split_by_patient
from monai_mgca.utils import DataError
from monai_mgca.utils.progress import progress_bar

from .small_report_encoder import ENCODER_FILES, write_report_encoder
from .wording import LANGUAGES

__all__ = ["SampleKind", "fill_folder", "find_sample_dir"]

logger = logging.getLogger(__name__)

_FRACTIONS = (0.75, 0.125, 0.125)


@dataclass(frozen=True)
class SampleKind:
    """What distinguishes the samples.

    Args:
        source: name of the datalist and of its source.
        version: of the drawing and the wording: a sample of another version is recreated.
        least: the smallest `image_size`.
        files: key of an entry to the subfolder of its files.
        pattern: of the files' names.
        classes: what the datalist says of the classes.
        units: what is counted, and its size, for the log.
        some: further keys that some entries have, of files or folders.
    """

    source: str
    version: int
    least: int
    files: Mapping[str, str]
    pattern: str
    classes: Mapping[str, Sequence[str]]
    units: tuple[str, str]
    some: Sequence[str] = ()


def fill_folder(
    kind: SampleKind,
    make_study: Callable[..., Entry],
    output_dir: str | os.PathLike,
    size: int,
    image_size: int,
    seed: int,
    num_workers: int | None,
    progress: bool,
    language: str = "en",
) -> Path:
    """Make a sample in a folder, or find it there complete and with the same settings.

    Args:
        kind: of the sample.
        make_study: writes a study's files and gives its entry: (folder, image_size, seed, index, patient, prior).
        output_dir: see :func:`make_sample`, also for the others.
        size: number of studies.
        image_size: pixels or voxels of a side.
        seed: of the drawing.
        num_workers: processes that draw.
        progress: show a bar.
        language: of the reports, several joined by "+".

    Returns:
        The path of ``datalist.json``.

    Raises:
        DataError: when an argument is out of its range, or the folder holds a datalist of something else.
    """
    workers = os.cpu_count() or 1 if num_workers is None else num_workers
    limits = (("size", size, 8), ("image_size", image_size, kind.least), ("seed", seed, 0), ("num_workers", workers, 1))
    for name, value, least in limits:
        if value < least:
            raise DataError(f"{name} must be at least {least}, got {value}.")
    settings: dict[str, Any] = {"version": kind.version, "size": size, "image_size": image_size, "seed": seed}
    extra: dict[str, Any] = {}
    if language != "en":
        settings["language"], extra = language, {"language": language, "letters": "all"}
    path = (folder := Path(output_dir)) / "datalist.json"
    units, extent = kind.units
    if _is_complete(kind, path, settings):
        logger.info(f"The sample of {size} {units} in {folder} is complete: reused.")
        return path
    path.unlink(missing_ok=True)  # from here on incomplete
    for name in kind.files.values():
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_report_encoder(folder / "report_encoder", "en" if language == "en" else "+".join(LANGUAGES))

    # threads, not processes: numpy and Pillow free the interpreter, and notebooks need no main guard
    with ThreadPoolExecutor(workers) as pool:
        made = pool.map(lambda study: make_study(folder, image_size, seed, *study), _plan_studies(size, seed))
        entries = list(progress_bar(made, "drawing the sample", size) if progress else made)
    splits = split_by_patient(entries, _FRACTIONS, seed)
    extra |= {"settings": settings, **{key: list(names) for key, names in kind.classes.items()}}
    document = write_datalist(path, splits, name=kind.source, source=kind.source, dropped={}, **extra)
    _remove_leftovers(kind, folder, entries)
    counts = ", ".join(f"{count} {section}" for section, count in document["counts"].items())
    logger.info(f"Made the sample in {folder}: {counts} {units} of {extent.format(image_size)}; {path}.")
    return path


def find_sample_dir(base: str | os.PathLike, size: int, image_size: int) -> str:
    """The folder of a sample of some size: samples of several sizes stand side by side, and none takes another's place.

    Args:
        base: of the first sample, whatever its size; another size has its own folder beside, ``base_48_146``.
        size: number of studies.
        image_size: pixels or voxels of a side.

    Returns:
        The folder, where the sample is or may be made.

    Example::

        print(find_sample_dir("bundles/mgca/data/sample", size=640, image_size=146))
    """
    base = os.fspath(base)
    own, path = f"{base}_{size}_{image_size}", Path(base) / "datalist.json"
    settings = (read_datalist(path).get("settings") if path.is_file() else None) or {}
    is_base = (settings.get("size", size), settings.get("image_size", image_size)) == (size, image_size)
    return base if is_base and (path.is_file() or not os.path.isdir(own)) else own


def _is_complete(kind: SampleKind, path: Path, settings: Mapping[str, Any]) -> bool:
    """Whether the datalist is there, of these settings, with all its files."""
    if not path.is_file():
        return False
    document = read_datalist(path)
    if document.get("source") != kind.source:
        raise DataError(f"{path} is the datalist of another data set; give the sample a folder of its own.")
    base = os.path.realpath(path.parent)
    files: list[Any] = [f"report_encoder/{name}" for name in ENCODER_FILES]
    files += [entry.get(key) for *_, entry in places_of(document) for key in kind.files]
    files += [entry.get(key) for *_, entry in places_of(document) for key in kind.some if key in entry]
    return document.get("settings") == settings and not any(file_problem(base, file) for file in files)


def _plan_studies(size: int, seed: int) -> list[tuple[int, int, bool]]:
    """For every study its index, its patient, and whether the patient has an earlier one: a quarter have two."""
    pairs = size // 5
    studies_of = np.random.default_rng([seed]).permutation([2] * pairs + [1] * (size - 2 * pairs))
    visits = [(patient, visit > 0) for patient, count in enumerate(studies_of) for visit in range(count)]
    return [(index, patient, prior) for index, (patient, prior) in enumerate(visits)]


def _remove_leftovers(kind: SampleKind, folder: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Remove the files of an earlier, larger sample."""
    for key, subfolder in kind.files.items():
        named = {os.path.basename(entry[key]) for entry in entries}
        for file in (folder / subfolder).glob(kind.pattern):
            if file.name not in named:
                file.unlink(missing_ok=True)
