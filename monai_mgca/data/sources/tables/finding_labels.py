# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Tables of a row a volume and a column a finding, 1 where it is there and 0 where it is not."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from monai_mgca.data.sources.tables.rows import numbered_rows
from monai_mgca.utils import DataError

__all__ = ["finding_names", "read_labels"]

_VALUES = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1, "": None}


def finding_names(table: str | os.PathLike, key: str) -> list[str]:
    """The findings of a table of labels, by its columns and in their order.

    Args:
        table: the CSV table.
        key: the column of the volumes' names; of columns ``finding*location`` the findings are taken.

    Raises:
        DataError: when there is no such table or column, or it has no row or no other column.

    Example::

        with open("labels.csv", "w") as file:
            file.write("name,nodule*left lung,nodule*right lung,emphysema\\n1,0,0,0\\n")
        print(finding_names("labels.csv", "name"))  # ['nodule', 'emphysema']
    """
    _, row = next(numbered_rows(table, (key,)), (0, {}))
    names = list(dict.fromkeys(column.split("*")[0] for column in row if column not in (key, "")))
    if not names:
        raise DataError(f"{table} has no row, or no column but {key}.")
    return names


def read_labels(
    table: str | os.PathLike, key: str, classes: Sequence[str], words: Mapping[str, int | None] | None = None
) -> dict[str, list[int | None]]:
    """Read a table of labels.

    Args:
        table: the CSV table.
        key: the column of the volumes' names.
        classes: the columns to read, in this order. Where the table has a column for each ``finding*location``, these
            together are the finding's: it is there if it is anywhere.
        words: what cells of this table mean, in upper case, where it is not what is said below.

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
    meanings = {**_VALUES, **(words or {})}
    found: dict[str, list[int | None]] = {}
    columns: dict[str, list[str]] = {}
    for line, row in numbered_rows(table, (key,)):
        if not columns:
            columns = {name: _columns_of(name, row) for name in classes}
            if missing := [name for name, places in columns.items() if not places]:
                raise DataError(f"{table} has no column '{missing[0]}', nor '{missing[0]}*' with a location.")
        for column in (column for places in columns.values() for column in places):
            if row[column].strip().upper() not in meanings:
                known = ", ".join(value for value in (*(words or ()), "1", "0", "-1") if value)
                raise DataError(f"{table} line {line}: '{column}' is none of {known} and empty.")
        labels = [_any([meanings[row[column].strip().upper()] for column in places]) for places in columns.values()]
        if found.setdefault(row[key].strip(), labels) != labels:
            raise DataError(f"{table} line {line}: '{key}' has a volume of an earlier line, with other labels.")
    return found


def _columns_of(name: str, row: dict[str, str]) -> list[str]:
    return [column for column in row if column == name or column.startswith(f"{name}*")]


def _any(values: Sequence[int | None]) -> int | None:
    """Present if anywhere, else uncertain if anywhere, else absent if that is known of all."""
    return next((value for value in (1, -1, None) if value in values), 0)
