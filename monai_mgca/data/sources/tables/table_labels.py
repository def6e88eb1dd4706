# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Masks, boxes and labels in the columns of a table."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monai_mgca.data.entry import refuse_repeated
from monai_mgca.data.sources.collection import Collection
from monai_mgca.data.sources.tables.cells import names_in, parse_value
from monai_mgca.utils import DataError

__all__ = ["LabelColumns", "name_classes"]

_RUNS = re.compile(r"-1|\d+(?: +\d+)+")
_WORDS = {"true": 1.0, "false": 0.0}  # as pandas writes truth


@dataclass(frozen=True)
class LabelColumns:
    """The columns of a table that hold masks, boxes and labels, and how they are written there.

    Args:
        masks: of each class the column of its masks, "class=column", or one column without a class: paths, or COCO's
            run lengths as JSON.
        boxes: the column of JSON lists of [x0, y0, x1, y1], or of {"label": name, "box": [x0, y0, x1, y1]}; of volumes
            of [x0, y0, z0, x1, y1, z1].
        box_columns: four columns in place of it, of volumes six, one row a box.
        box_label: the column of the class of a row's boxes. Without it and without labels in ``boxes``, there is one
            class, "finding".
        box_format: "xyxy" for two corners, "xywh" for a corner, width and height; of volumes also the depth.
        no_box: what an empty cell of boxes means: "unknown", the image is not annotated, or "none", it has no finding.
        labels: the columns of labels, one a class: 1, 0, -1 for uncertain, empty for unknown.
        label: in their place one column of the names of the classes that are there, a list as Python or JSON write it
            (``['edema', 'effusion']``) or with separators.
        separator: between the names.
        classes: the names to take and their order; boxes and names of others are left out. Defaults to all, sorted.

    Raises:
        DataError: when two options exclude each other, or one has a name twice.

    Example::

        print(LabelColumns(label="finding").read({"finding": "edema|effusion"}, "1.png"))
    """

    masks: Sequence[str] = ()
    boxes: str | None = None
    box_columns: Sequence[str] = ()
    box_label: str | None = None
    box_format: str = "xyxy"
    no_box: str = "unknown"
    labels: Sequence[str] = ()
    label: str | None = None
    separator: str = "|"
    classes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.boxes and self.box_columns:
            raise DataError("name either one column of boxes, or columns of numbers.")
        if len(self.box_columns) not in (0, 4, 6):
            raise DataError(f"a box has four numbers, that of a volume six, got {len(self.box_columns)} columns.")
        if self.labels and self.label:
            raise DataError("name either columns of labels, one a class, or one column of names.")
        if len(self.masks) > 1 and not all("=" in mask for mask in self.masks):
            raise DataError("of several masks each needs its class: --mask CLASS=COL.")
        for name in ("box_columns", "labels", "classes"):
            refuse_repeated(getattr(self, name), f"--{name.replace('_', '-')}")
        refuse_repeated([mask.partition("=")[0] for mask in self.masks], "--mask")

    def __bool__(self) -> bool:
        return bool(self.columns)

    @property
    def columns(self) -> list[str]:
        """All columns that must be there."""
        masks = [mask.partition("=")[2] or mask for mask in self.masks]
        others = [self.boxes, *self.box_columns, self.box_label, *self.labels, self.label]
        return [*masks, *filter(None, others)]

    def read(self, row: Mapping[str, str], image: str) -> dict[str, Any]:
        """The annotations of a row: "masks", "boxes" as (class, box) pairs, "labels" as a list or a set of names.

        Args:
            row: cells by column, empty where a value is missing.
            image: named in errors.

        Raises:
            DataError: when a cell cannot be parsed.
        """
        found: dict[str, Any] = {}
        if self.masks:
            found["masks"] = [_mask(row[mask.partition("=")[2] or mask].strip(), image) for mask in self.masks]
        if self.boxes or self.box_columns:
            boxes = self._boxes(row, image)
            if boxes or self.no_box == "none":
                found["boxes"] = boxes
        if self.labels:
            found["labels"] = [_label(row[column].strip(), column, image) for column in self.labels]
        if self.label and (names := self._names(row[self.label].strip(), image)):
            found["labels"] = names
        return found

    def _names(self, cell: str, image: str) -> set[str]:
        try:
            return names_in(cell, self.separator)
        except ValueError as error:
            raise DataError(f"the names of {image} in column '{self.label}' cannot be parsed ({error}).") from None

    def _boxes(self, row: Mapping[str, str], image: str) -> list[tuple[str, list[float]]]:
        name = row[self.box_label].strip() if self.box_label else "finding"
        try:
            if self.boxes:
                items = parse_value(row[self.boxes].strip() or "[]")
            else:
                cells = [row[column].strip() for column in self.box_columns]
                items = [[float(cell) for cell in cells]] if any(cells) else []
            pairs = [(item["label"], item["box"]) if isinstance(item, dict) else (name, item) for item in items]
            boxes = [(str(label), [float(edge) for edge in box]) for label, box in pairs]
            if not all(len(box) in (4, 6) and all(map(math.isfinite, box)) for _, box in boxes):
                raise ValueError("a box has four numbers, or six")
        except (ValueError, OverflowError, TypeError, KeyError):  # any column's text, which is not reported
            form = "" if self.box_columns else '[[x0, y0, x1, y1], ...] or [{"label": ..., "box": [x0, y0, x1, y1]}], '
            raise DataError(f"the boxes of {image} cannot be parsed ({form}a box has four numbers, or six).") from None
        if not all(label for label, _ in boxes):
            raise DataError(f"a box of {image} has no class: fill column '{self.box_label}', or leave its row out.")
        if self.box_format == "xywh":
            boxes = [(label, _corners(box)) for label, box in boxes]
        return boxes

    def number(self, entries: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
        """Turn names into indices of classes, in all entries; the lists of classes for the datalist.

        Args:
            entries: with what :meth:`read` gave; changed in place.
        """
        entries, header = list(entries), {}
        if len(self.masks) > 1:
            header["mask_classes"] = [mask.partition("=")[0] for mask in self.masks]
        elif self.masks and "=" in self.masks[0]:
            header["mask_classes"] = [self.masks[0].partition("=")[0]]
        if self.boxes or self.box_columns:
            seen = {name for entry in entries for name, _ in entry.get("boxes") or ()}
            header["box_classes"] = names = list(self.classes or sorted(seen))
            for entry in entries:
                if "boxes" in entry:
                    kept = [(name, box) for name, box in entry["boxes"] if name in names]
                    entry["boxes"] = [box for _, box in kept]
                    entry["box_labels"] = [names.index(name) for name, _ in kept]
        if self.labels:
            header["classes"] = list(self.labels)
        elif self.label:
            seen = {name for entry in entries for name in entry.get("labels") or ()}
            header["classes"] = names = list(self.classes or sorted(seen))
            for entry in entries:
                if "labels" in entry:
                    entry["labels"] = [int(name in entry["labels"]) for name in names]
        return header


def name_classes(collection: Collection, annotations: LabelColumns) -> None:
    """Replace names of classes by indices, and note the classes that no entry has, and what may be several names.

    Args:
        collection: its entries hold what :meth:`LabelColumns.read` gave; changed in place.
        annotations: the columns.
    """
    entries = [entry for _, entry in collection.entries]
    collection.header = annotations.number(entries)
    boxes = {index for entry in entries for index in entry.get("box_labels") or ()}
    labels = {i for entry in entries for i, value in enumerate(entry.get("labels") or ()) if value == 1}
    for key, seen in (("box_classes", boxes), ("classes", labels)):
        missing = [name for index, name in enumerate(collection.header.get(key, ())) if index not in seen]
        if missing:
            collection.notes.append(f"no entry has the class {', '.join(missing)}: is it written as in the table?")
    for key in ("box_classes", "classes"):
        alike: dict[str, list[str]] = {}
        for name in collection.header.get(key, ()):
            alike.setdefault(" ".join(re.split(r"[\s_-]+", name.lower())), []).append(name)
        for names in (names for names in alike.values() if len(names) > 1):
            collection.notes.append(
                f"classes of nearly one name: {', '.join(names)}; write one that is meant in one way"
            )
    joined = [name for name in collection.header.get("classes", ()) if annotations.label and re.search("[|;,]", name)]
    if joined:
        hint = "is --separator right?"
        collection.notes.append(f"{len(joined)} classes have a separator in their name, '{joined[0]}' say: {hint}")


def _corners(box: list[float]) -> list[float]:
    """The two corners of a box that is given by one and by its sizes."""
    first, sizes = box[: len(box) // 2], box[len(box) // 2 :]
    return [*first, *(start + size for start, size in zip(first, sizes, strict=True))]


def _mask(cell: str, image: str) -> Any:
    if _RUNS.fullmatch(cell):
        raise DataError(f"the mask of {image} is run lengths of Kaggle's kind: the source siim_acr reads such tables.")
    if not cell.startswith("{"):
        return cell
    try:
        return parse_value(cell)
    except ValueError as error:
        raise DataError(f"the mask of {image} is no JSON ({error}).") from None


def _label(cell: str, column: str, image: str) -> int | None:
    if not cell:
        return None
    try:
        value = _WORDS[cell.lower()] if cell.lower() in _WORDS else float(cell)
    except ValueError:
        value = math.nan
    if value not in (1, 0, -1):
        raise DataError(f"the label of {image} in column '{column}' is none of 1, 0, -1 (uncertain), empty (unknown).")
    return int(value)
