# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Rows of one image: what they say is put together, and contradictions are found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from monai_mgca.data.paths import file_problem
from monai_mgca.io.run_lengths import encode_rle
from monai_mgca.utils import DataError
from monai_mgca.utils.console import name_some
from monai_mgca.utils.progress import list_problems

__all__ = ["ImageRows", "join_rows"]

# Names of a label that say that there is no other.
_NONE_FOUND = ("no finding", "no findings", "normal", "no abnormality", "no abnormalities", "healthy")
_MEND = (
    "An image has one patient, one report, one split and one value of a label: mend these rows, leave the column out,"
    " or choose one reader's rows with --where COL=VALUE."
)


@dataclass
class ImageRows:
    """All rows of one image.

    Args:
        lines: where they are in the table.
        values: of each row what there is one of for an image, by its name in messages; "" where it is missing.
        found: of each row what :meth:`LabelColumns.read` gave.
    """

    lines: list[int] = field(default_factory=list)
    values: list[dict[str, str]] = field(default_factory=list)
    found: list[dict[str, Any]] = field(default_factory=list)

    def add(self, line: int, values: dict[str, str], found: dict[str, Any]) -> bool:
        """Add a row.

        Returns:
            Whether it says anything that an earlier one did not.
        """
        is_new = (values, found) not in zip(self.values, self.found, strict=True)
        if is_new:
            self.lines.append(line)
            self.values.append(values)
            self.found.append(found)
        return is_new


def join_rows(
    table: str | os.PathLike, rows_of: Mapping[str, ImageRows], labels: Sequence[str], base: str
) -> Iterable[tuple[str, dict[str, str], dict[str, Any]]]:
    """Put the rows of each image together.

    Names of labels and boxes are united; of a column of values, and of all that an image has one of, what is there
    counts; several masks of one class become one, as run lengths.

    Args:
        table: named in errors.
        rows_of: image path to its rows.
        labels: the names of columns of labels.
        base: the dataset folder.

    Returns:
        (path, values, annotations) of each image.

    Raises:
        DataError: naming the lines that contradict each other, or whose masks cannot be put together.

    Example::

        rows = ImageRows([2, 3], [{}, {}], [{"labels": {"edema"}}, {"labels": {"effusion"}}])
        print(list(join_rows("t.csv", {"1.png": rows}, [], ".")))
    """
    joined, problems = [], list[tuple[str, str]]()
    for path, rows in rows_of.items():
        note = partial(_note, problems, path, rows)
        joined.append((path, _join_values(rows, note), _join_found(rows, labels, path, base, note)))
    if problems:
        images = len({path for path, _ in problems})
        title = f"{table}: rows of one image contradict each other, of {images} images"
        raise DataError(list_problems(title, problems, _MEND))
    return joined


def _note(problems: list, path: str, rows: ImageRows, what: str, has: Callable[[int], Any]) -> None:
    """Note what the rows say that contradict each other, those that have it; never a value."""
    lines = name_some((line for i, line in enumerate(rows.lines) if has(i)), limit=8)
    problems.append((path, f"lines {lines}: {what}"))


def _join_values(rows: ImageRows, note: Callable) -> dict[str, str]:
    if len(rows.values) == 1:
        return rows.values[0]
    joined = {}
    for name in rows.values[0]:
        different = dict.fromkeys(values[name] for values in rows.values if values[name])
        joined[name] = next(iter(different), "")
        if len(different) > 1:
            note(f"{len(different)} different values of the {name}", lambda i, name=name: rows.values[i][name])
    return joined


def _join_found(rows: ImageRows, columns: Sequence[str], path: str, base: str, note: Callable) -> dict[str, Any]:
    if len(rows.found) == 1:
        found = dict(rows.found[0])
        masks = [[mask] if mask else [] for mask in found.pop("masks", ())]
    else:
        found = {}
        masks = [_unique(m for m in some if m) for some in zip(*(f.get("masks", ()) for f in rows.found), strict=False)]
        if any("boxes" in one for one in rows.found):
            found["boxes"] = _unique(box for one in rows.found for box in one.get("boxes", ()))
        labels = [one.get("labels") for one in rows.found]
        if any(isinstance(some, set) for some in labels):
            found["labels"] = _join_names(labels, note)
        elif any(labels):
            found["labels"] = [_join_label(labels, j, name, note) for j, name in enumerate(columns)]
    if masks and all(masks):
        joined = [some[0] if len(some) == 1 else _join_masks(some, path, base, note) for some in masks]
        found["mask"] = joined if len(joined) > 1 else joined[0]
    return found


def _unique(items: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found


def _join_names(labels: Sequence[set[str] | None], note: Callable) -> set[str]:
    def none_found(i: int) -> bool:
        return all(" ".join(n.lower().replace("_", " ").split()) in _NONE_FOUND for n in labels[i] or "-")

    said = [none_found(i) for i, names in enumerate(labels) if names]
    if any(said) and not all(said):
        note("a finding and 'no finding'", lambda i: labels[i])
    return set().union(*(names for names in labels if names))


def _join_label(labels: Sequence[list | None], column: int, name: str, note: Callable) -> int | None:
    values = [None if some is None else some[column] for some in labels]
    known = {value for value in values if value is not None}
    if len(known) > 1:
        note(f"{len(known)} different values of '{name}'", lambda i: values[i] is not None)
    return next(iter(known), None)


def _join_masks(masks: Sequence[Any], path: str, base: str, note: Callable) -> Any:
    """The union of an image's masks of one class, as training reads each of them."""
    from monai_mgca.transforms.load_mask import LoadMask  # which imports MONAI, for seconds

    load = LoadMask()
    try:
        for reason in (file_problem(base, mask) for mask in masks if isinstance(mask, str)):
            if reason:
                raise DataError(f"a mask: {reason}")
        planes = [np.asarray(load(os.path.join(base, m) if isinstance(m, str) else m))[0] > 0 for m in masks]
        if len({plane.shape for plane in planes}) > 1:
            raise DataError("masks of different sizes")
        return encode_rle(np.logical_or.reduce(planes))
    except DataError as error:
        note(f"{len(masks)} masks that cannot be put together ({error})", lambda i: True)
        return None
