# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from monai_mgca.data.annotations import annotation_problems
from monai_mgca.data.datalist import SECTIONS, file_problem, find_dataset_dir, map_in_threads, read_datalist
from monai_mgca.data.split import count_shared_patients
from monai_mgca.transforms import CleanReport, LoadRadiograph, LoadVolume
from monai_mgca.utils import DataError

__all__ = ["Problem", "check_datalist", "format_problems"]

# The first bytes of PNG, JPEG, GIF, TIFF (both byte orders), BMP, JPEG 2000, gzip (NIfTI).
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"BM", b"\0\0\0\x0cjP", b"\x1f\x8b")


class Problem(NamedTuple):
    """Something that is broken: why, and in which file."""

    reason: str
    file: str


def check_datalist(
    datalist: str | os.PathLike,
    dataset_dir: str | os.PathLike | None = None,
    num_workers: int | None = None,
    volumes: bool = False,
) -> list[Problem]:
    """Open every image and mask of a datalist, and read every report, box and label.

    Args:
        datalist: the datalist JSON.
        dataset_dir: the folder that paths are relative to. Defaults to the datalist's own folder.
        num_workers: threads that open images. Defaults to the number of processors.
        volumes: the images are CTs: NIfTI files or folders of DICOM series.

    Returns:
        All that is broken: images that are missing, of zero bytes, no image, unreadable, constant, with values that
        are not finite, or outside the dataset folder; what :func:`annotation_problems` tells; reports that are too
        short, or empty where there is no annotation; ids that are there twice; patients in two splits.

    Raises:
        DataError: when the datalist or the dataset folder is not there, or it has no entries.

    Example::

        for problem in check_datalist("dataset.json"):
            print(problem.file, problem.reason)
    """
    document = read_datalist(datalist)
    splits = {section: document[section] for section in SECTIONS if document.get(section)}
    entries = [entry for section in splits.values() for entry in section]
    if not entries:
        raise DataError(f"{datalist} has no entries; make it anew with `python -m monai_mgca.data`.")
    base, clean = find_dataset_dir(datalist, dataset_dir), CleanReport()
    found = map_in_threads(
        lambda entry: list(_check_entry(entry, base, clean, document, LoadVolume() if volumes else LoadRadiograph())),
        entries,
        "opening the images",
        num_workers or os.cpu_count(),
    )
    problems = [problem for some in found for problem in some]
    times = Counter(str(entry.get("id")) for entry in entries)
    problems += [Problem("duplicate id", _name(entry)) for entry in entries if times[str(entry.get("id"))] > 1]
    shared = count_shared_patients(splits)
    if shared:  # counted, not named: a patient's id is nobody's business
        problems.append(Problem("one patient in two splits", f"({shared} patients)"))
    return problems


def format_problems(problems: Sequence[Problem]) -> str:
    """Write the problems as a table: each reason with its count, and its files."""
    by_reason: dict[str, list[str]] = {}
    for problem in problems:
        by_reason.setdefault(problem.reason, []).append(problem.file)
    lines = [f"{'count':>7}  reason", *(f"{len(files):>7}  {reason}" for reason, files in by_reason.items()), ""]
    for reason, files in by_reason.items():
        lines += [f"{reason}:", *(f"  {file}" for file in files)]
    return "\n".join(lines)


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("image") or "(an entry without an image)")


def _check_entry(
    entry: Mapping[str, Any],
    base: str,
    clean: CleanReport,
    document: Mapping[str, Any],
    load: Callable[[str], Any],
) -> Iterator[Problem]:
    masks = [key for key in entry if key == "mask" or key.endswith("_mask")]
    annotated = any(entry.get(key) is not None for key in ("labels", "boxes", *masks))
    report = entry.get("report")
    if not isinstance(report, str) or not report.strip():
        if report is not None or not annotated:
            yield Problem("empty report", _name(entry))
    elif not clean(report):
        yield Problem("report too short", _name(entry))
    reason = file_problem(base, entry.get("image")) or _image_problem(os.path.join(base, entry["image"]), load)
    if reason:
        yield Problem(reason, _name(entry))
    if reason in (None, "constant"):  # else its size is not known
        classes = (document.get("classes"), document.get("box_classes"))
        yield from (Problem(told, file) for file, told in annotation_problems(entry, base, *classes, masks))


def _image_problem(path: str, load: Callable[[str], Any]) -> str | None:
    """Why an image that is there cannot be trained on."""
    try:
        image = load(path)
    except DataError as e:
        if "not finite" in str(e):
            return "values that are not finite (NaN)"
        return "unreadable or truncated" if _looks_like_an_image(Path(path)) else "not an image"
    return "constant" if image.min() == image.max() else None


def _looks_like_an_image(path: Path) -> bool:
    if path.is_dir():
        return False
    with path.open("rb") as file:
        head = file.read(132)
    return head.startswith(_SIGNATURES) or head[128:] == b"DICM"
