# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Cells of a table as programs write them: values that are missing, lists, ids that were taken for numbers."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any

from monai_mgca.utils import DataError
from monai_mgca.utils.files import parse_json

__all__ = ["clean_cell", "id_problems", "is_missing", "names_in", "parse_value", "refuse_list", "text_in"]

# What pandas, R, databases and spreadsheets write for a value that is not there, in lower case.
_MISSING = frozenset(
    "nan -nan +nan null none na n/a n.a. <na> nat nil \\n (null) <null> - -- --- – — . ? [] [''] [\"\"] () {}"
    " #n/a #na -1.#ind 1.#ind -1.#qnan 1.#qnan #null! #value! #ref! #name? #div/0! #num!".split()
)
_FORMULA = re.compile(r'="(.*)"|\'(?=\d)(.*)', re.DOTALL)  # how an id is kept from becoming a number in Excel
_LIST = re.compile(r"\[.*\]|\{.*\}|array\(.*\)|\(\s*['\"].*['\"]\s*,?\s*\)", re.DOTALL)
_QUOTED_LIST = re.compile(r"[\[(]\s*['\"].*['\"]\s*,?\s*[\])]", re.DOTALL)
_SECTIONS = re.compile(r"\{\s*(['\"])[^'\"]+\1\s*:.*\}", re.DOTALL)
_NO_COMMA = re.compile(r"'\s+'|\"\s+\"")  # numpy's way to print; Python would join the words
_SCIENTIFIC = re.compile(r"\d(?:[.,]\d+)?[eE]\+\d+")
_NUMBER = re.compile(r"0*(\d+?)(?:\.0*)?")


def clean_cell(cell: str) -> str:
    """A cell without what surrounds its value: blanks, and what keeps Excel from taking an id for a number.

    Args:
        cell: as it stands in the table.

    Example::

        print(clean_cell(' ="007" '))  # 007
    """
    cell = cell.strip()
    match = _FORMULA.fullmatch(cell)
    return (match[1] or match[2] or "").strip() if match else cell


def is_missing(cell: str) -> bool:
    """Whether a cell is empty, or says in the words of some program that its value is not there.

    Args:
        cell: without blanks around it.

    Example::

        print(is_missing("NaN"), is_missing("N/A"), is_missing("nano"))  # True True False
    """
    return not cell or (len(cell) < 12 and cell.lower() in _MISSING)


def parse_value(cell: str) -> Any:
    """The value of a cell that is JSON, or a list or dictionary as Python prints it.

    Args:
        cell: from anywhere.

    Raises:
        ValueError: when it is neither; the message does not hold the cell.

    Example::

        print(parse_value("['a', 'b']"), parse_value('["a", "b"]'))  # ['a', 'b'] ['a', 'b']
    """
    try:
        return parse_json(cell)
    except ValueError as error:
        if _NO_COMMA.search(cell):
            raise ValueError("words without a comma between them, as numpy prints them") from None
        try:
            return ast.literal_eval(cell)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise error from None


def names_in(cell: str, separator: str) -> set[str]:
    """The names in a cell: of a list as Python or JSON write it, else between separators.

    Args:
        cell: cleaned.
        separator: between names.

    Raises:
        ValueError: when it looks like a list, and is none.

    Example::

        print(sorted(names_in("['edema', 'mass']", "|")), sorted(names_in("edema|mass", "|")))
    """
    if _LIST.fullmatch(cell):
        value = parse_value(cell)
        if not isinstance(value, (list, tuple, set)) or not all(isinstance(name, str) for name in value):
            raise ValueError("a list of names was expected")
        parts: Iterable[str] = value
    else:
        parts = cell.split(separator)
    return {name for name in map(str.strip, parts) if not is_missing(name)}


def text_in(cell: str) -> str:
    """The text of a cell; sentences of a list are joined, and the names of a dictionary are headings.

    Args:
        cell: cleaned.

    Raises:
        ValueError: when it looks like a list or dictionary of texts, and is none.

    Example::

        print(text_in("['Clear lungs.', 'No effusion.']"))  # Clear lungs. No effusion.
    """
    if _SECTIONS.fullmatch(cell):
        sections = {name: [] if text is None else text for name, text in parse_value(cell).items()}
        return "\n".join(f"{name}:\n{_joined(text)}" for name, text in sections.items() if text)
    return _joined(parse_value(cell)) if _QUOTED_LIST.fullmatch(cell) else cell


def _joined(text: Any) -> str:
    if isinstance(text, str):
        return text
    if not isinstance(text, (list, tuple, set)) or not all(isinstance(part, (str, NoneType)) for part in text):
        raise ValueError("texts were expected, within the list or dictionary")
    return " ".join(part.strip() for part in text if part)


def refuse_list(cell: str, column: str) -> None:
    """Refuse a list where one value is expected.

    Args:
        cell: cleaned.
        column: named in the error.

    Raises:
        DataError: which does not hold the cell.
    """
    if _QUOTED_LIST.fullmatch(cell):
        raise DataError(f"column '{column}' holds a list, and one value is expected: make a row of each.")


def id_problems(lines_of: Mapping[str, int]) -> list[tuple[str, str]]:
    """Which ids were taken for numbers somewhere: 7 beside 007 or 7.0, and those that lost their digits.

    Args:
        lines_of: each id to the line of the table where it is first.

    Returns:
        (lines, reason); never an id.

    Example::

        print(id_problems({"007": 2, "7": 5}))  # lines 2 and 5 ...
    """
    found, first = [], dict[str, int]()
    for name, line in lines_of.items():
        if _SCIENTIFIC.fullmatch(name):
            found.append((f"line {line}", "a number as Excel writes long ones (with E+): digits are lost"))
        elif match := _NUMBER.fullmatch(name):
            other = first.setdefault(match[1], line)
            if other != line:
                found.append((f"lines {other} and {line}", "one number, written in two ways (zeros before it, .0)"))
    return found
