# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Datalists: a JSON file of entries by section, written, read, and checked before a training."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import monai_mgca
from monai_mgca.data.entry import SECTIONS, Entry, Sections, as_entry, check_document
from monai_mgca.data.paths import file_problem, find_dataset_dir
from monai_mgca.data.preflight import chosen_for_a_look, header_reason, report_reason, shared_with_other_sections
from monai_mgca.utils import DataError
from monai_mgca.utils.files import parse_json, replacing
from monai_mgca.utils.progress import list_problems, many_objects, map_in_threads

__all__ = ["content_hash", "load_datalist", "read_datalist", "report_letters", "write_datalist"]


def content_hash(entries_by_split: Sections) -> str:
    """The sha256 of the entries' canonical JSON, so that two datalists with the same content have the same hash."""
    encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
    digest = hashlib.sha256()

    def add(text: str) -> None:  # piece by piece: the whole text of a large datalist takes hundreds of megabytes
        digest.update(text.encode("utf-8", "surrogatepass"))

    for i, split in enumerate(sorted(entries_by_split)):
        add(f"{',' if i else '{'}{encode(split)}:[")
        for j, entry in enumerate(entries_by_split[split]):
            add(("," if j else "") + encode(entry))
        add("]")
    add("}" if entries_by_split else "{}")
    return "sha256:" + digest.hexdigest()


def write_datalist(
    path: str | os.PathLike,
    entries_by_split: Sections,
    /,
    name: str,
    source: str,
    dropped: Mapping[str, int],
    **extra: Any,
) -> dict[str, Any]:
    """Write a datalist JSON; the file appears whole or not at all.

    Args:
        path: the JSON file to write; its folder is made if need be.
        entries_by_split: "training", "validation" and "test" (those there are) to lists of entries. An entry has
            "id", "image" (relative to the dataset folder), "report", "patient", and extras.
        name: the data set's name.
        source: what the entries were made from, for people who find the file later.
        dropped: reason to number of items that were left out.
        extra: further top-level fields, such as `classes=["edema", "effusion"]`.

    Returns:
        What was written: the header fields, then the entries by split.

    Raises:
        DataError: when a split has another name.

    Example::

        entry = {"id": "1", "image": "images/1.png", "report": "Clear lungs. No effusion.", "patient": "1"}
        write_datalist("dataset.json", {"training": [entry]}, name="mine", source="by hand", dropped={})
    """
    unknown = sorted(set(entries_by_split) - set(SECTIONS))
    if unknown:
        raise DataError(f"unknown split {', '.join(unknown)}: a datalist has {', '.join(SECTIONS)}.")
    document = {
        "name": name,
        "source": source,
        "monai_mgca": monai_mgca.__version__,
        "hash": content_hash(entries_by_split),
        "counts": {split: len(entries) for split, entries in entries_by_split.items()},
        "dropped": dict(dropped),
        **extra,
        **{split: list(entries_by_split[split]) for split in SECTIONS if split in entries_by_split},
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # half a surrogate, as names of files have that are no UTF-8, becomes JSON's own escape
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(_lines_of(document))
    return document


def _lines_of(document: Mapping[str, Any]) -> Iterator[str]:
    """The document's text, an entry a line: json's own indentation is not made by its encoder in C."""
    encode = json.JSONEncoder(ensure_ascii=False).encode
    yield "{"
    for i, (key, value) in enumerate(document.items()):
        yield f"{',' if i else ''}\n {encode(key)}: "
        if key in SECTIONS:
            yield "["
            for j, entry in enumerate(value):
                yield f"{',' if j else ''}\n  {encode(entry)}"
            yield "\n ]"
        else:
            yield encode(value)
    yield "\n}\n"


@many_objects()
def read_datalist(path: str | os.PathLike) -> dict[str, Any]:
    """Read a datalist JSON.

    Raises:
        DataError: when there is no such file (naming the nearest one), or it is not a datalist.
    """
    path = Path(path)
    if not path.is_file():
        folder = path.parent
        names = [p.name for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []
        near = get_close_matches(path.name, names, n=1, cutoff=0.5)
        hint = f" Did you mean {folder / near[0]}?" if near else ""
        raise DataError(f"no such datalist: {path}.{hint} `mgca data --help` says how to make one.")
    try:
        document = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as e:  # says line and column, not the content
        raise DataError(f"{path} is not JSON ({e}); recreate it with `mgca data`.") from None
    return check_document(document, path)


def report_letters(path: str | os.PathLike) -> str:
    """Which letters the reports of a datalist keep, as its field "letters" says: "ascii", for English, or "all".

    Args:
        path: the datalist JSON; of one that is not there "ascii", for whoever reads it names that better.

    Example::

        write_datalist("dataset.json", {}, name="mine", source="by hand", dropped={}, letters="all")
        print(report_letters("dataset.json"))  # all
    """
    return str(read_datalist(path).get("letters", "ascii")) if Path(path).is_file() else "ascii"


@many_objects()
def load_datalist(
    path: str | os.PathLike,
    section: str,
    dataset_dir: str | os.PathLike | None = None,
    keys: Sequence[str] | str = ("image",),
    report: bool = True,
) -> list[Entry]:
    """Load one section of a datalist, with absolute paths, after checking every entry.

    Every path and report is looked at, the header of up to 2,000 images, evenly spaced, and whether a patient is in
    another section too. What else may be broken, `mgca check` finds.

    Args:
        path: the datalist JSON.
        section: "training", "validation" or "test".
        dataset_dir: the folder that paths are relative to and may not leave. Defaults to the datalist's own folder.
        keys: the keys that hold paths; each must be there, be a file and not be empty.
        report: whether every entry needs a report.

    Returns:
        The entries, those of `keys` made absolute.

    Raises:
        DataError: when the file, the section or the dataset folder is not there, with a list of all bad entries, or
            when a patient is in another section too.

    Example::

        data = load_datalist("dataset.json", "training", dataset_dir="/data/cxr")
    """
    document = read_datalist(path)
    entries = document.get(section)
    if not entries:
        there = [f"{s} ({len(document[s])})" for s in SECTIONS if document.get(s)]
        raise DataError(
            f"{path} has {'no' if entries is None else 'an empty'} section '{section}'; it has {', '.join(there)}. Make"
            " it with patient-wise splits, e.g. `mgca data csv ... --fractions 0.8 0.1 0.1`, or name"
            " a section that is there."
        )
    keys = (keys,) if isinstance(keys, str) else tuple(keys)
    base = find_dataset_dir(path, dataset_dir)
    problems = _section_problems(document, section, base, keys, report)
    if problems:
        title = f"{path}: {len(problems)} problems in section '{section}' (dataset folder {base})"
        mend = (
            "Give the right dataset_dir, or mend the files. `mgca check` with this datalist finds"
            " all that is broken, and with --write-clean FILE leaves it out."
        )
        raise DataError(list_problems(title, problems, mend))
    return [as_entry({**entry, **{key: os.path.join(base, entry[key]) for key in keys}}) for entry in entries]


def _section_problems(
    document: Mapping[str, Any], section: str, base: str, keys: Sequence[str], report: bool
) -> list[tuple[str, str]]:
    """(file, reason) of what is bad: every path and report, some headers, and the patients."""
    entries = document[section]
    folders: dict[str, str] = {}

    def check(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
        paths = {key: entry.get(key) for key in keys}
        found = [(p or f"(an entry without '{key}')", file_problem(base, p, folders)) for key, p in paths.items()]
        if report:
            found.append((entry.get("image"), report_reason(entry.get("report"), document.get("letters", "ascii"))))
        return [(file, reason) for file, reason in found if reason]

    problems = [problem for found in map_in_threads(check, entries, f"checking {section}") for problem in found]
    if not problems:
        chosen = [entry["image"] for entry in chosen_for_a_look(entries)] if "image" in keys else []
        reasons = map_in_threads(lambda image: header_reason(base, image), chosen, f"looking at {section}")
        problems = [(image, reason) for image, reason in zip(chosen, reasons, strict=True) if reason]
    shared = shared_with_other_sections({s: document.get(s, ()) for s in SECTIONS}, section)
    if shared:  # counted, not named: a patient's id is nobody's business
        problems.append((f"({shared} patients)", "in another section too: what is learned of them would be tested"))
    return problems
