# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What a table says of its images' patients and views, such as sex and age, by which results are split."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence

from monai_mgca.data.sources.collection import Collection
from monai_mgca.data.sources.tables.cells import clean_cell, is_missing
from monai_mgca.data.sources.tables.rows import numbered_rows
from monai_mgca.data.sources.tables.table_images import ImageColumns
from monai_mgca.utils import DataError

__all__ = ["add_groups", "group_value"]

_DICOM_AGE = re.compile(r"(\d{1,3})([YMWD])")
_YEARS = {"Y": 1, "M": 12, "W": 52, "D": 365}


def group_value(cell: str) -> str | float | None:
    """The value of a cell: a number where it is one, or an age as DICOM writes it, in years; None where it is missing.

    Args:
        cell: of a table.

    Example::

        print(group_value("045Y"), group_value("F"), group_value("nan"))  # 45 F None
    """
    text = clean_cell(cell)
    if is_missing(text):
        return None
    if age := _DICOM_AGE.fullmatch(text):
        return int(age[1]) // _YEARS[age[2]]
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else number


def add_groups(
    collection: Collection,
    images: ImageColumns,
    table: str | os.PathLike,
    groups: Sequence[str],
    encoding: str | None = None,
) -> None:
    """Put what a table says under some columns into the entries of the same images, as "groups".

    Args:
        collection: whose entries get it.
        images: of the table, which may be another one than the entries are of.
        table: CSV or TSV.
        groups: columns, or NAME=COLUMN.
        encoding: of the table.

    Raises:
        DataError: when a column is not there, or two rows of an image differ.

    Example::

        collection = Collection("own", ".")
        with open("subjects.csv", "w") as file:
            file.write("path,sex,PatientAge\\n1.png,F,045Y\\n")
        add_groups(collection, ImageColumns("path"), "subjects.csv", ["sex", "age=PatientAge"])
    """
    columns = {name: column or name for name, _, column in (group.partition("=") for group in groups)}
    found: dict[str, dict[str, str | float]] = {}
    for line, row in numbered_rows(table, [*images.columns, *columns.values()], encoding):
        if path := images.path(row):
            values = {name: group_value(row[column]) for name, column in columns.items()}
            known = {name: value for name, value in values.items() if value is not None}
            if found.setdefault(path, known) != known:
                raise DataError(f"{table} line {line}: another row of the same image has other groups.")
    for _, entry in collection.entries:
        if known := found.get(entry["image"], {}):
            entry["groups"] = known
    counts = Counter(name for _, entry in collection.entries for name in entry.get("groups", ()))
    numbers = ", ".join(f"{name} of {counts[name]}" for name in columns)
    collection.notes.append(f"groups known, of {len(collection.entries)} images: {numbers}")
