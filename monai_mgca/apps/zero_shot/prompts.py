# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Prompts: what reports say where a finding is there and where it is not, read from a JSON file."""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from monai_mgca.utils.errors import DataError
from monai_mgca.utils.files import parse_json

__all__ = ["Prompts", "find_prompts", "number_of_texts", "prompted_classes", "read_prompts"]

logger = logging.getLogger(__name__)

SIDES = ("positive", "negative")
EXAMPLE = '{"effusion": {"positive": ["small left pleural effusion"], "negative": ["no pleural effusion"]}}'


class Prompts(NamedTuple):
    """What reports say where a finding is there, and where it is not."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    names: tuple[str, ...] = ()  # what else the finding is called


def read_prompts(path: str | os.PathLike) -> dict[str, Prompts]:
    """Read the prompts of findings.

    Args:
        path: a JSON file, an object with an object for each finding: ``positive`` and ``negative``, lists of texts, and
            if need be ``names``, what datalists call the finding besides.

    Returns:
        The prompts by finding, in the file's order.

    Raises:
        DataError: when there is no such file, it is not such JSON, or a finding lacks a side or has an empty text,
            naming file, finding and mend.

    Example::

        with open("prompts.json", "w") as file:
            file.write('{"edema": {"positive": ["pulmonary edema"], "negative": ["no edema"]}}')
        print(read_prompts("prompts.json")["edema"].positive)  # ('pulmonary edema',)
    """
    if not Path(path).is_file():
        raise DataError(f"no such file of prompts: {path}. Write one, as {EXAMPLE}.")
    try:
        document = parse_json(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # says where
        raise DataError(f"{path} is not JSON ({error}): write it as {EXAMPLE}.") from None
    if not isinstance(document, dict) or not document:
        raise DataError(f"{path} holds no findings: write it as {EXAMPLE}.")
    return {finding: _prompts(f"{path}: finding '{finding}'", sides) for finding, sides in document.items()}


def _prompts(place: str, sides: Any) -> Prompts:
    if not isinstance(sides, dict):
        raise DataError(f"{place} must be an object with 'positive' and 'negative': write it as {EXAMPLE}.")
    foreign = sorted(set(sides) - set(Prompts._fields))
    if foreign:
        raise DataError(f"{place} has the unknown key '{foreign[0]}'; it may have {', '.join(Prompts._fields)}.")
    for side in SIDES:
        if not sides.get(side):
            state = "an empty list" if side in sides else "no list"
            raise DataError(f"{place} has {state} '{side}': give texts, as {EXAMPLE}.")
    for key, texts in sides.items():
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise DataError(f"{place}: '{key}' must be a list of texts, as {EXAMPLE}.")
        for number, text in enumerate(texts, 1):
            if not text.strip():
                raise DataError(f"{place}: text {number} of '{key}' is empty: fill it, or take it out.")
    return Prompts(**{key: tuple(texts) for key, texts in sides.items()})


def prompted_classes(path: str | os.PathLike, classes: Sequence[str]) -> list[str]:
    """Those of a datalist's classes that a file of prompts knows, by the finding's name or one of its other names.

    Args:
        path: as for :func:`read_prompts`.
        classes: names in any case. The others are reported in the log.

    Raises:
        DataError: when there is none; as :func:`read_prompts`.

    Example::

        with open("prompts.json", "w") as file:
            file.write('{"edema": {"positive": ["pulmonary edema"], "negative": ["no edema"]}}')
        print(prompted_classes("prompts.json", ["Edema", "mass"]))  # ['Edema']
    """
    prompts = read_prompts(path)
    found = [name for name in classes if find_prompts(prompts, name)]
    if not found:
        raise DataError(
            f"{path} has prompts for none of the classes {', '.join(classes)}; it has them for {', '.join(prompts)}. "
            "Write prompts under a class's name, or add that to the finding's 'names'."
        )
    left_out = [name for name in classes if name not in found]
    if left_out:
        logger.info(f"Left out, because {path} has no prompts for them: {', '.join(left_out)}.")
    return found


def find_prompts(prompts: Mapping[str, Prompts], name: str) -> Prompts | None:
    """The prompts of a class, by the finding's name or one of its other names, in any case; None if there are none."""
    known = {other.lower(): sides for finding, sides in prompts.items() for other in (*sides.names, finding)}
    return known.get(name.lower())


def number_of_texts(prompts: Prompts, temperature: float) -> int:
    """A number that is another one where a finding is compared with other texts, or at another temperature.

    Args:
        prompts: of the finding; what it is called does not matter.
        temperature: by which similarities are divided.

    Example::

        print(number_of_texts(Prompts(("edema",), ("no edema",)), 0.07))
    """
    return zlib.crc32(json.dumps([prompts.positive, prompts.negative, float(temperature)]).encode())
