# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Tables of a row a volume and a column a finding, 1 where it is there and 0 where it is not."""

from __future__ import annotations

import os
from collections.abc import Sequence

from monai_mgca.data.sources.rows import numbered_rows
from monai_mgca.utils import DataError

__all__ = ["read_labels"]

_VALUES = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1, "": None}


def read_labels(table: str | os.PathLike, key: str, classes: Sequence[str]) -> dict[str, list[int | None]]:
    """Read a table of labels.

    Args:
        table: the CSV table.
        key: the column of the volumes' names.
        classes: the columns to read, in this order. Where the table has a column for each ``finding*location``, these
            together are the finding's: it is there if it is anywhere.

    Returns:
        Name to 1, 0, -1 for uncertain and None for an empty cell, one of each class.

    Raises:
        DataError: when the table or a column is not there, a cell is another value, or a volume is there twice with
            other labels (by line).

    Example::

        with open("labels.csv", "w") as file:
            file.write("VolumeName,Emphysema\\ntrain_1_a_1.nii.gz,1\\n")
        print(read_labels("labels.csv", "VolumeName", ["Emphysema"]))  # {'train_1_a_1.nii.gz': [1]}
    """
    found: dict[str, list[int | None]] = {}
    columns: dict[str, list[str]] = {}
    for line, row in numbered_rows(table, (key,)):
        if not columns:
            columns = {name: _columns_of(name, row) for name in classes}
            if missing := [name for name, places in columns.items() if not places]:
                raise DataError(f"{table} has no column '{missing[0]}', nor '{missing[0]}*' with a location.")
        for column in (column for places in columns.values() for column in places):
            if row[column].strip() not in _VALUES:
                raise DataError(f"{table} line {line}: '{column}' is none of 1, 0, -1 and empty.")
        labels = [_any([_VALUES[row[column].strip()] for column in places]) for places in columns.values()]
        if found.setdefault(row[key].strip(), labels) != labels:
            raise DataError(f"{table} line {line}: '{key}' has a volume of an earlier line, with other labels.")
    return found


def _columns_of(name: str, row: dict[str, str]) -> list[str]:
    return [column for column in row if column == name or column.startswith(f"{name}*")]


def _any(values: Sequence[int | None]) -> int | None:
    """Present if anywhere, else uncertain if anywhere, else absent if that is known of all."""
    return next((value for value in (1, -1, None) if value in values), 0)
