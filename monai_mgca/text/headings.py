# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What stands under a heading of a report: the table, and what users add to it by a JSON file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from monai_mgca.text.heading_table import HEADINGS
from monai_mgca.text.letters import to_latin
from monai_mgca.utils import DataError
from monai_mgca.utils.files import parse_json

__all__ = ["Headings", "Known"]

_KINDS = tuple(HEADINGS)
# said of a section without changing what it is
_QUALIFIERS = frozenset(
    "final overall preliminary prelim initial radiological radiology radiologic radiographic radiologist radiologists"
    " imaging image ct cta hrct ldct mri mr us ultrasound pet xray x ray cxr chest thorax thoracic lung key main major"
    " pertinent other additional incidental brief official attending diagnostic current principal primary detailed"
    " new important relevant positive s radiologica radiologico diagnostica diagnostico radiologische radiologischer"
    " radiologique final finale finali".split()
)
_JOINED = re.compile(r"[/&+,;]| (?:and|und|y|et|e|en|og|och|ve|or) ")
_BRACKETED = re.compile(r"\([^()]{0,80}\)|\[[^\[\]]{0,80}\]")
_NUMBERING = re.compile(r"^(?:[0-9]{1,2}|[ivx]{1,4}|[a-h])(?= ) ")
_WORD = re.compile(r"[^\W_]+")
_MOST_WORDS = 8


def _normal(label: str) -> str:
    return " ".join(_WORD.findall(to_latin(label).lower()))


class Known(NamedTuple):
    """A heading of the table.

    Args:
        kind: of what stands under it.
        name: in the table.
        exact: whether it is written so, without words that qualify it.
    """

    kind: str
    name: str
    exact: bool = True


class Headings:
    """What stands under a heading: the table, and what users add to it.

    Args:
        extra: kinds ("findings", "impression", "left_out", ...) to headings, which then are of that kind.

    Raises:
        DataError: when a kind is unknown or its headings are no list of words.

    Example::

        print(Headings({"findings": ["Bildtext"]}).kind("BILDTEXT").kind)  # findings
    """

    def __init__(self, extra: Mapping[str, Sequence[str]] | None = None) -> None:
        self._kind_of = {_normal(name): kind for kind, names in HEADINGS.items() for name in names.split(",")}
        for kind, names in (extra or {}).items():
            if kind not in HEADINGS:
                near = get_close_matches(kind, _KINDS, n=1)
                hint = f" Did you mean '{near[0]}'?" if near else ""
                raise DataError(f"'{kind}' is no kind of heading.{hint} Kinds are: {', '.join(_KINDS)}.")
            if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) and _normal(n) for n in names):
                raise DataError(f"the headings of '{kind}' must be a list of words.")
            self._kind_of |= {_normal(name): kind for name in names}

    @classmethod
    def read(cls, path: str | os.PathLike | None) -> Headings:
        """The table with the headings of a JSON file, ``{"findings": ["..."]}``; None adds nothing.

        Raises:
            DataError: when there is no such file, or it is something else.
        """
        if path is None:
            return cls()
        try:
            extra = parse_json(Path(path).read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read as JSON ({type(error).__name__}): {cls._MEND}") from None
        if not isinstance(extra, dict):
            raise DataError(f"{path} is no JSON object: {cls._MEND}")
        try:
            return cls(extra)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    _MEND = 'write {"findings": ["..."], "impression": ["..."], "left_out": ["..."]}.'

    def kind(self, label: str) -> Known | None:
        """The kind of a heading and its name in the table; None where it is not in it.

        Args:
            label: what stands before the colon or alone on the line; numbers and marks around it do not matter.
        """
        name = _normal(label)
        if not name or name.count(" ") >= _MOST_WORDS:
            return None
        for candidate in (name, _NUMBERING.sub("", name, count=1)):
            if candidate in self._kind_of:
                return Known(self._kind_of[candidate], candidate)
        label = to_latin(_BRACKETED.sub(" ", label)).lower()
        parts = [self._qualified(part) for part in _JOINED.split(label)]
        found = [known for known in parts if known is not None]
        if not found or len(found) < len(parts):
            return None
        return min(found, key=lambda known: _PRIORITY.index(known.kind))

    def _qualified(self, label: str) -> Known | None:
        """A heading less the words that do not change what it is."""
        words = _NUMBERING.sub("", _normal(label), count=1).split()
        name = whole = " ".join(words)
        while words and name not in self._kind_of:
            if words[0] in _QUALIFIERS:
                words = words[1:]
            elif words[-1] in _QUALIFIERS:
                words = words[:-1]
            else:
                return None
            name = " ".join(words)
        return Known(self._kind_of[name], name, name == whole) if words else None


# of what is joined in one heading ("technique and findings") the first of these counts
_PRIORITY = ("findings", "report", "impression", "part", "left_out", "header")
