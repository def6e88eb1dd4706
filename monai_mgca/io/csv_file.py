# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""CSV tables whose cells a spreadsheet shows and never runs, and that read back as they were."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from monai_mgca.utils.files import replacing

__all__ = ["cell_text", "csv_cell", "safe_cell", "write_csv"]

# what makes a formula of a cell, also in full width; behind apostrophes it is a text that has one less
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")


def safe_cell(value: Any) -> Any:
    """A value as a cell that no spreadsheet takes for a formula: an apostrophe stands before a text that is like one.

    Numbers stay, also where they are texts, such as "-0.5".

    Args:
        value: a text, such as the name of a file, or a number.

    Example::

        print(safe_cell("=1+1.png"), safe_cell("-0.5"))  # '=1+1.png -0.5
    """
    if not isinstance(value, str) or _NUMBER.fullmatch(value) or not _FORMULA.match(value):
        return value
    return f"'{value}"


def cell_text(cell: str) -> str:
    """The text that :func:`safe_cell` made a cell of, for every text.

    Args:
        cell: as it is in the table.

    Example::

        print(cell_text("'=1+1.png"))  # =1+1.png
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def csv_cell(text: str) -> str:
    """A text as it stands in a CSV file, in quotes where it needs them, for writers that know nothing of it.

    Args:
        text: such as the path of an image.

    Example::

        print(csv_cell("=1,2.png"))  # "'=1,2.png"
    """
    row = io.StringIO()
    csv.writer(row, lineterminator="").writerow([safe_cell(text)])
    return row.getvalue().encode("utf-8", "backslashreplace").decode()


def write_csv(path: str | os.PathLike, rows: Iterable[Sequence[Any]], line_end: str = "\r\n") -> None:
    """Write a CSV table of :func:`safe_cell`s; it appears whole or not at all.

    Args:
        path: of the table; its folder is made if need be.
        rows: the header, and then a value for each column.
        line_end: behind each row.

    Example::

        write_csv("scores.csv", [("image", "score"), ("1.png", 0.5)])
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # the name of a file may be no UTF-8
    way: dict[str, Any] = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}
    with replacing(path) as temporary, temporary.open("w", **way) as file:
        csv.writer(file, lineterminator=line_end).writerows([safe_cell(value) for value in row] for row in rows)
