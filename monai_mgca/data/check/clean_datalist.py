# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes a datalist without what a check found broken."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from monai_mgca.data.check.check_datalist import find_excluded
from monai_mgca.data.check.problem import CheckLimits, Problem
from monai_mgca.data.datalist import read_datalist, write_datalist
from monai_mgca.data.entry import SECTIONS, places_of
from monai_mgca.data.paths import find_dataset_dir
from monai_mgca.utils import DataError
from monai_mgca.utils.files import parse_json

__all__ = ["read_exclusions", "write_clean"]

# Fields that are not copied, but written again.
_OWN = ("name", "source", "monai_mgca", "hash", "counts", "dropped", *SECTIONS)


def read_exclusions(path: str | os.PathLike) -> list[str]:
    """Read a list of images to leave out.

    Args:
        path: a text file with a path a line, a JSON list of paths, or a JSON object whose keys are paths, as a
            training writes of the images in batches that gave no finite loss.

    Raises:
        DataError: when there is no such file, or it is no such list.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}): give a list of image paths.") from None
    found: list[Any] = [line.strip() for line in text.splitlines() if line.strip()]
    if text.lstrip().startswith(("{", "[")):
        try:
            found = list(parse_json(text))
        except ValueError:
            found = [None]
    if not all(isinstance(item, str) and "\0" not in item for item in found):
        raise DataError(f"{path} is no list of image paths: one a line, or a JSON list or object of them.")
    return found


def write_clean(
    datalist: str | os.PathLike,
    output: str | os.PathLike,
    problems: Sequence[Problem],
    limits: CheckLimits,
    dataset_dir: str | os.PathLike | None = None,
    exclude: Collection[str] = (),
) -> str:
    """Write a datalist without the entries that are broken; the others stay as they are, in their sections and order.

    Args:
        datalist: the datalist that was checked.
        output: the file to write.
        problems: of :func:`monai_mgca.data.check.check_datalist.check_datalist`.
        limits: those of the check; what they keep stays.
        dataset_dir: the folder that paths are relative to. Defaults to the datalist's own folder.
        exclude: paths of images that are left out too.

    Returns:
        The summary for people: what is left, what was left out and why, the hash, where it was written.

    Raises:
        DataError: when the output is the datalist itself, or nothing would be left.
    """
    if os.path.realpath(output) == os.path.realpath(datalist):
        raise DataError(f"{output} is the datalist itself: write the clean one under another name.")
    document, base = read_datalist(datalist), find_dataset_dir(datalist, dataset_dir)
    # of several reasons the first one counts
    reasons = {(p.section, p.index): p.reason for p in reversed(problems) if limits.leaves_out(p)}
    reasons |= dict.fromkeys(find_excluded(places_of(document), base, exclude), "excluded")
    splits = {
        section: [entry for index, entry in enumerate(document[section]) if (section, index) not in reasons]
        for section in SECTIONS
        if section in document
    }
    emptied = [section for section, entries in splits.items() if document[section] and not entries]
    splits = {section: entries for section, entries in splits.items() if entries}
    if not splits:
        raise DataError(f"nothing would be left of {datalist}: nothing is written. Is this the right dataset folder?")
    dropped = Counter(reasons.values())
    noted = document.get("dropped")
    noted = noted if isinstance(noted, dict) else {}
    earlier = {reason: number for reason, number in noted.items() if isinstance(number, int)}
    extra = {key: value for key, value in document.items() if key not in _OWN}
    name, source = str(document.get("name") or Path(base).name), str(document.get("source") or Path(datalist).name)
    total = {**earlier, **{reason: number + earlier.get(reason, 0) for reason, number in dropped.items()}}
    written = write_datalist(output, splits, name, source, total, **extra)
    lines = [f"{section}: {len(entries)} of {len(document[section])} entries" for section, entries in splits.items()]
    lines += [f"{section}: nothing is left, so there is no such section" for section in emptied]
    lines += [f"left out: {number} ({reason})" for reason, number in dropped.most_common()] or ["left out: 0"]
    if dropped["no decoder"]:
        lines.append("what has no decoder is sound: install or convert what is named above, and check again")
    lines += [f"hash: {written['hash']}", f"wrote {output}"]
    if os.path.realpath(Path(output).parent) != base:
        lines.append(f"its paths are relative to another folder: load it with dataset_dir={base}")
    return "\n".join(lines)
