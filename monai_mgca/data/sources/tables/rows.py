# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Tables row by row: separator, encoding and header as spreadsheets and data sets' makers write them."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from monai_mgca.io.csv_file import cell_text
from monai_mgca.utils import DataError

__all__ = ["numbered_rows", "read_rows"]

_MARKS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_WORKBOOKS = (b"PK\3\4", b"\xd0\xcf\x11\xe0")  # .xlsx and .ods; .xls
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # Excel's first line, which is no header
_ENCLOSED = re.compile(r'"[^"]*"|\[[^\]]*\]|\([^)]*\)')
_UNNAMED = re.compile(r"(?:Unnamed: \d+)?")  # what pandas calls a column without a name


def read_rows(
    path: str | os.PathLike, columns: Sequence[str] = (), encoding: str | None = None
) -> Iterator[dict[str, str]]:
    """Read a CSV or TSV table (comma, semicolon or tab; may be .gz) row by row.

    The apostrophe before a text that is like a formula, as this package and others write it, is no part of the text.

    Args:
        path: the table.
        columns: the columns that must be there, each once.
        encoding: its encoding. Defaults to UTF-8, or UTF-16 or 32 where the file begins with their mark.

    Raises:
        DataError: when the table is not there or cannot be read, a row is broken (by line), or a column is missing
            (naming the nearest one) or there twice.

    Example::

        for row in read_rows("reports.csv", columns=["image_path"]):
            print(row["image_path"])
    """
    return (row for _, row in numbered_rows(path, columns, encoding))


def numbered_rows(
    path: str | os.PathLike, columns: Sequence[str] = (), encoding: str | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows as of :func:`read_rows`, each with the number of the line that it begins on.

    Args:
        path: the table.
        columns: the columns that must be there.
        encoding: its encoding.

    Raises:
        DataError: as :func:`read_rows`.

    Example::

        for line, row in numbered_rows("reports.csv"):
            print(line, row)
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no such table: {path}")
    try:
        codecs.lookup(encoding or "utf-8")
    except LookupError:
        raise DataError(f"there is no encoding '{encoding}': name one as Python does, such as cp1252.") from None
    csv.field_size_limit(2**24)  # reports can be longer than csv's default of 128 kB
    line = 1
    try:
        with _open(path, encoding) as file:
            head, before = file.readline(), 0
            if "\0" in head:  # as UTF-16 without its mark
                raise UnicodeError
            if separator := _SEPARATOR_LINE.fullmatch(head):
                head, before = file.readline(), 1
            # strict: else a quote that is never closed would swallow all rows after it
            delimiter = separator[1] if separator else _delimiter(head)
            reader = csv.reader(chain([head] if head else [], file), delimiter=delimiter, strict=True)
            written = list(map(cell_text, next(reader, [])))
            header = _names(written)
            _check_columns(path, header, columns)
            line = reader.line_num + 1 + before
            for fields in reader:
                # spreadsheets write empty fields behind the last column
                if 0 < len(fields) < len(header) or any(map(str.strip, fields[len(written) :])):
                    raise csv.Error(f"{len(fields)} fields, the header has {len(header)}; is a quote missing?")
                if fields:
                    yield line, dict(zip(header, map(cell_text, fields), strict=False))
                line = reader.line_num + 1 + before  # where the next row begins: a row may span lines
    except UnicodeError:
        mend = "save it as UTF-8, or name its encoding (--encoding), such as cp1252 or latin-1"
        raise DataError(f"{path} is not {encoding or 'UTF-8'} (at or after line {line}): {mend}.") from None
    except (csv.Error, OSError, EOFError, zlib.error) as e:  # zlib's: a damaged .gz
        raise DataError(f"{path} cannot be read at line {line}: {e}") from None


def _open(path: Path, encoding: str | None) -> TextIO:
    raw = cast(BinaryIO, gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb"))  # noqa: SIM115  the caller closes it
    try:
        head = cast(io.BufferedReader, raw).peek(4)[:4]
        if head.startswith(_WORKBOOKS):
            raise DataError(f"{path} is a workbook or an archive: save its sheet as CSV UTF-8.")
        encoding = encoding or next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8-sig")
        return io.TextIOWrapper(raw, encoding=encoding, newline="")
    except BaseException:
        raw.close()
        raise


def _delimiter(head: str) -> str:
    bare = _ENCLOSED.sub("", head)
    return max(",;\t", key=lambda mark: (bare.count(mark), head.count(mark)))


def _names(header: list[str]) -> list[str]:
    """The names of the columns, without blanks around them, and without those at the end that have no name.

    NIH writes the names of four columns as one, ``Bbox [x,y,w,h],,,``, without quotes or with them.
    """
    names = [name.strip() for name in header]
    while names and not names[-1]:
        names.pop()
    spread: list[str] = []
    while len(spread) < len(names):
        rest = names[len(spread) :]
        closed = next((i for i, name in enumerate(rest) if name.endswith("]")), 0) if "[" in rest[0] else 0
        inner = ",".join(rest[: closed + 1]).partition("[")[2].removesuffix("]").split(",")
        after = [name for name in header[len(spread) + 1 : len(spread) + len(inner)] if _UNNAMED.fullmatch(name)]
        if len(inner) > 1 and (len(inner) == closed + 1 or len(inner) == len(after) + 1):
            spread += [name.strip() for name in inner]
        else:
            spread.append(rest[0])
    return spread if len(set(spread)) == len(spread) else names


def _check_columns(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    for column in columns:
        if header.count(column) > 1:
            places = " and ".join(str(i) for i, name in enumerate(header, start=1) if name == column)
            raise DataError(
                f"{path}: the column '{column}' is there {header.count(column)} times (columns {places}): which of them"
                " is meant? Rename or remove the others."
            )
        if column not in header:
            lower = {name.lower(): name for name in header}
            near = get_close_matches(column.strip().lower(), lower, n=1, cutoff=0.5)
            hint = f" Did you mean '{lower[near[0]]}'?" if near else ""
            raise DataError(f"{path} has no column '{column}'.{hint} The columns are: {', '.join(header)}.")
