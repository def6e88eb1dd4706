# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The entries of a datalist: their keys, their types, and the sections that they stand in."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypedDict, cast

from monai_mgca.text.sentence_cleaner import LETTERS
from monai_mgca.utils.errors import DataError

__all__ = [
    "ANNOTATIONS",
    "BOXES",
    "CLASS_LISTS",
    "LABELS",
    "SECTIONS",
    "UNITS",
    "Entry",
    "Place",
    "Sections",
    "as_entry",
    "as_text",
    "check_document",
    "has_value",
    "keep_keys",
    "mask_keys",
    "places_of",
    "refuse_repeated",
]

SECTIONS = ("training", "validation", "test")
# top-level fields of a datalist: names of the classes of labels, boxes and masks
CLASS_LISTS = ("classes", "box_classes", "mask_classes")
# the keys of labels and of boxes; those of masks differ, see mask_keys
LABELS = ("labels",)
BOXES = ("boxes", "box_labels")
# the keys of what the files of a volume lack, and its entry says in their place
UNITS = ("rescale", "spacing")
# an entry without a report must have one of these
ANNOTATIONS = ("labels", "boxes", "mask")


class Entry(TypedDict, total=False):
    """One image of a datalist with what is known of it; only "image" must be there, further keys may."""

    id: str  # unique in the datalist
    image: str  # path in the dataset folder
    report: str
    patient: str  # splits keep a patient's images together
    labels: list[float | None]  # 1, 0, -1 for uncertain, None for unknown; one of each of the datalist's classes
    boxes: list[list[float]]  # [x0, y0, x1, y1] in pixels of the stored image; of volumes in mm, RAS: x0, y0, z0, ...
    box_labels: list[int]  # indices among box_classes
    box_phrases: list[str]  # what the report says of each box
    mask: Any  # path, or run lengths, or these by class
    view: str  # PA, AP, lateral ...
    groups: dict[str, str | float]  # sex, age and so on, by which results are split


Sections = Mapping[str, Sequence[Entry]]  # entries by the name of their section
Place = tuple[str, int, Entry]  # section, index in it, entry


def as_entry(values: Mapping[str, Any]) -> Entry:
    """The same mapping under the type of an entry, for keys that are variables or further ones; nothing is checked."""
    return cast(Entry, values)


def has_value(entry: Mapping[str, Any], key: str) -> bool:
    """Whether an entry has a key, and not null under it."""
    return entry.get(key) is not None


def keep_keys(entry: Mapping[str, Any], keys: Collection[str]) -> Entry:
    """The image of an entry with the values under some keys, of which it may lack any."""
    return as_entry({key: entry[key] for key in ("image", *keys) if key in entry})


def mask_keys(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of an entry that hold masks: "mask", and those that end with "_mask"."""
    return tuple(key for key in entry if key == "mask" or key.endswith("_mask"))


def places_of(document: Mapping[str, Any], sections: Sequence[str] = SECTIONS) -> list[Place]:
    """All entries of a datalist with their section and their index in it, section by section.

    Args:
        document: of :func:`check_document`.
        sections: their order; those that the datalist lacks are skipped.
    """
    return [(section, index, entry) for section in sections for index, entry in enumerate(document.get(section, ()))]


def as_text(value: Any) -> str:
    """The value of an entry's report or alike, empty where it is no text or says nothing."""
    return value if isinstance(value, str) and value.strip() else ""


def check_document(document: Any, path: str | os.PathLike) -> dict[str, Any]:
    """What all readers of a datalist ask of it, so that none needs to ask again; the files it names are not opened.

    Args:
        document: what the JSON file holds.
        path: of the file, for the messages.

    Returns:
        The document: lists of entries under the names of sections, of which some may be missing, lists of classes, and
        the letters of the reports.

    Raises:
        DataError: when it is no such object, or an entry's patient is a list or an object.
    """
    sections = [document.get(section, []) for section in SECTIONS] if isinstance(document, dict) else [None]
    if not all(isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries) for entries in sections):
        raise DataError(f"{path} is not a datalist: an object with lists of entries under {', '.join(SECTIONS)}.")
    if any(isinstance(entry.get("patient"), (list, dict)) for entries in sections for entry in entries or ()):
        raise DataError(f"{path} has an entry whose patient is no text; recreate it with `mgca data`.")
    for key in CLASS_LISTS:
        if not isinstance(document.get(key) or [], list):
            raise DataError(f"{path}: '{key}' is no list of names; recreate it with `mgca data`.")
    if document.get("letters", "ascii") not in LETTERS:
        raise DataError(f"{path}: 'letters', of the reports, must be one of {', '.join(LETTERS)}; write one of them.")
    checked: dict[str, Any] = document
    return checked


def refuse_repeated(names: Sequence[str], where: str) -> None:
    """Refuse names of which one is there twice: each stands for one class or column.

    Args:
        names: of classes or of columns.
        where: the option or file that has them, for the message.

    Raises:
        DataError: naming the first such name.
    """
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{where} has '{name}' {names.count(name)} times: give each name once.")
