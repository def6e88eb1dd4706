# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Checks every entry of a datalist: opens the images and looks at reports, masks, boxes and labels."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from monai_mgca.data.annotations import annotation_problems
from monai_mgca.data.check.duplicates import duplicate_problems, name_of
from monai_mgca.data.check.image_problems import check_radiograph, check_volume
from monai_mgca.data.check.phi import image_signs, report_signs, tag_signs
from monai_mgca.data.check.problem import CheckLimits, Problem
from monai_mgca.data.datalist import read_datalist
from monai_mgca.data.entry import (
    BOXES,
    LABELS,
    SECTIONS,
    UNITS,
    Entry,
    Place,
    as_text,
    has_value,
    keep_keys,
    mask_keys,
    places_of,
)
from monai_mgca.data.paths import file_problem, find_dataset_dir
from monai_mgca.io.image_header import is_lateral
from monai_mgca.text.sentence_cleaner import SentenceCleaner, report_doubts
from monai_mgca.utils import DataError
from monai_mgca.utils.progress import map_in_threads

__all__ = ["check_datalist"]

_OUT_OF_RANGE = {"label out of range": LABELS, "box out of range": BOXES}


def check_datalist(
    datalist: str | os.PathLike,
    dataset_dir: str | os.PathLike | None = None,
    num_workers: int | None = None,
    volumes: bool = False,
    limits: CheckLimits | None = None,
    phi: bool = False,
    exclude: Collection[str] = (),
) -> list[Problem]:
    """Open every image and mask of a datalist, and read every report, box and label.

    Args:
        datalist: the datalist JSON.
        dataset_dir: the folder that paths are relative to. Defaults to the datalist's own folder.
        num_workers: threads that open images. Defaults to the number of processors.
        volumes: the images are CTs: NIfTI files or folders of DICOM series.
        limits: what counts as broken.
        phi: look for personal data too: in reports, DICOM tags and the corners of images.
        exclude: paths of images, as in the datalist or absolute, that are not looked at.

    Returns:
        All that is broken or doubtful; :mod:`monai_mgca.data.check.problem` lists the reasons. Never a patient's id
        or a report's text.

    Raises:
        DataError: when the datalist or the dataset folder is not there, or it has no entries.

    Example::

        for problem in check_datalist("dataset.json"):
            print(problem.file, problem.reason, problem.detail)
    """
    document = read_datalist(datalist)
    base, limits = find_dataset_dir(datalist, dataset_dir), limits or CheckLimits()
    places = places_of(document)
    if not places:
        raise DataError(f"{datalist} has no entries; recreate it with `mgca data`.")
    excluded = find_excluded(places, base, exclude)
    places = [place for place in places if place[:2] not in excluded]
    check = _EntryCheck(document, base, limits, volumes, phi)
    results = map_in_threads(check, places, "opening the images", num_workers or os.cpu_count())
    problems = [problem for found, _ in results for problem in found]
    digests = {place[:2]: digest for place, (_, digest) in zip(places, results, strict=True) if digest is not None}
    splits: dict[str, list] = {section: list(document.get(section, ())) for section in SECTIONS}
    for section, index in excluded:
        splits[section][index] = {}
    broken = {(problem.section, problem.index) for problem in problems if limits.leaves_out(problem)}
    return [*problems, *duplicate_problems(splits, digests, broken)]


def find_excluded(places: Collection[Place], base: str, exclude: Collection[str]) -> set:
    """Section and index of the entries whose image is among the paths, absolute or relative to the dataset folder."""
    wanted = {os.path.normpath(os.path.join(base, path)) for path in exclude}
    wanted |= {os.path.realpath(path) for path in wanted}
    images = ((section, index, os.path.join(base, str(entry.get("image")))) for section, index, entry in places)
    return {(section, index) for section, index, image in images if wanted and os.path.normpath(image) in wanted}


class _EntryCheck:
    """All problems of one entry by itself, and the digest of its image."""

    def __init__(self, document: Mapping[str, Any], base: str, limits: CheckLimits, volumes: bool, phi: bool) -> None:
        self.classes = (document.get("classes"), document.get("box_classes"))
        self.mask_classes = document.get("mask_classes")
        self.base, self.limits, self.volumes, self.phi = base, limits, volumes, phi
        self.clean = SentenceCleaner(letters=document.get("letters", "ascii"))

    def __call__(self, place: Place) -> tuple[list[Problem], bytes | None]:
        section, index, entry = place
        digest = None
        found: list[tuple[str, str, str | None]] = [(reason, detail, None) for reason, detail in self._report(entry)]
        reason = file_problem(self.base, entry.get("image"))
        if reason:
            reason, _, detail = reason.partition(" (")
            found.append(("cannot be opened" if detail else reason, detail.rstrip(")"), None))
        else:
            path = os.path.join(self.base, entry["image"])
            image = (check_volume if self.volumes else check_radiograph)(path, self.limits)
            digest = image.digest
            found += [(reason, detail, None) for reason, detail in image.found]
            if is_lateral(entry.get("view")) and all(reason != "lateral view" for reason, *_ in found):
                found.append(("lateral view", "by its 'view'", None))
            if image.pixels is not None or any(reason == "constant" for reason, *_ in found):  # else no size is known
                found += self._annotations(entry)
            if self.phi:
                found += [(*sign, None) for sign in tag_signs(image.tags)]
                found += [] if self.volumes else [(*sign, None) for sign in image_signs(image.pixels)]
        name = name_of(entry)
        return [Problem(reason, file or name, detail, section, index) for reason, detail, file in found], digest

    def _report(self, entry: Entry) -> Iterator[tuple[str, str]]:
        annotated = any(has_value(entry, key) for key in ("labels", "boxes", *mask_keys(entry)))
        report = as_text(entry.get("report"))
        if not report:
            if has_value(entry, "report") or not annotated:
                yield "empty report", ""
        else:
            if dropped := self.clean.why_dropped(report):
                reason, _, detail = dropped.partition(": ")
                yield reason, detail
            else:
                yield from report_doubts(report, self.clean.letters)
            if self.phi:
                yield from ((sign, "") for sign in report_signs(report))

    def _annotations(self, entry: Entry) -> Iterator[tuple[str, str, str]]:
        masks = mask_keys(entry)
        for reason, keys in {**_OUT_OF_RANGE, "mask does not fit": masks}.items():
            part = keep_keys(entry, (*keys, *UNITS))
            of = (*self.classes, masks, self.mask_classes, 3 if self.volumes else 2)
            for file, detail in annotation_problems(part, self.base, *of):
                yield reason, detail.removeprefix("mask: "), file
