# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

from __future__ import annotations

import gc
import hashlib
import json
import os
import stat
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from monai.utils import optional_import

import monai_mgca
from monai_mgca.data.preflight import chosen_for_a_look, header_reason, report_reason, shared_with_other_sections
from monai_mgca.utils import DataError
from monai_mgca.utils.files import parse_json, replacing

tqdm, has_tqdm = optional_import("tqdm", name="tqdm")

__all__ = [
    "SECTIONS",
    "content_hash",
    "file_problem",
    "find_files",
    "list_problems",
    "load_datalist",
    "map_in_threads",
    "progress_bar",
    "read_datalist",
    "resolve_path",
    "write_datalist",
]

SECTIONS = ("training", "validation", "test")
CLASS_LISTS = ("classes", "box_classes", "mask_classes")


@contextmanager
def many_objects() -> Iterator[None]:
    """Make many objects that all stay: the garbage collector would look through them again and again for nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def progress_bar(items: Iterable, description: str, total: int | None = None) -> Iterable:
    """Iterate with a tqdm progress bar, which appears only when the work takes more than two seconds."""
    return tqdm(items, desc=description, total=total, delay=2) if has_tqdm else items


def map_in_threads(
    function: Callable[[Any], Any], items: Sequence, description: str, num_workers: int | None = None
) -> list:
    """Apply a function that waits for files to all items, in threads; the results are in the items' order.

    `num_workers` threads open whole files; the default, more threads than processors, suits a look at each.
    """
    threads = num_workers or min(32, 4 * (os.cpu_count() or 1))
    # large pieces where there are many items: handing them over would take longer than a look at a file
    piece = max(1, min(256, len(items) // (8 * threads)))
    with ThreadPool(threads) as pool:
        return list(progress_bar(pool.imap(function, items, chunksize=piece), description, len(items)))


def list_problems(title: str, problems: Sequence[tuple[str, str]], mend: str, limit: int = 20) -> str:
    """Write (file, reason) pairs as a message: the first `limit` of them and the number of the rest."""
    lines = [f"{title}:", *(f"  {file}: {reason}" for file, reason in problems[:limit])]
    if len(problems) > limit:
        lines.append(f"  ... and {len(problems) - limit} more")
    return "\n".join([*lines, mend])


def content_hash(entries_by_split: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
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
    entries_by_split: Mapping[str, Sequence[Mapping[str, Any]]],
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
    with replacing(path) as temporary:
        # half a surrogate, as names of files have that are no UTF-8, becomes JSON's own escape
        with temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
            json.dump(document, file, indent=1, ensure_ascii=False)
            file.write("\n")
    return document


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
        raise DataError(f"no such datalist: {path}.{hint} `python -m monai_mgca.data --help` tells how to make one.")
    try:
        document = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as e:  # says line and column, not the content
        raise DataError(f"{path} is not JSON ({e}); make it anew with `python -m monai_mgca.data`.") from None
    sections = [document.get(section, []) for section in SECTIONS] if isinstance(document, dict) else [None]
    if not all(isinstance(s, list) and all(isinstance(entry, dict) for entry in s) for s in sections):
        raise DataError(f"{path} is not a datalist: an object with lists of entries under {', '.join(SECTIONS)}.")
    if any(isinstance(entry.get("patient"), (list, dict)) for section in sections for entry in section):
        raise DataError(f"{path} has an entry whose patient is no text; make it anew with `python -m monai_mgca.data`.")
    for key in CLASS_LISTS:
        if not isinstance(document.get(key) or [], list):
            raise DataError(f"{path}: '{key}' is no list of names; make it anew with `python -m monai_mgca.data`.")
    return document


def find_dataset_dir(datalist: str | os.PathLike, dataset_dir: str | os.PathLike | None) -> str:
    """The real path of the folder that the datalist's paths are relative to (default: the datalist's own)."""
    folder = Path(datalist).parent if dataset_dir is None else Path(dataset_dir)
    if not folder.is_dir():
        raise DataError(f"the dataset folder does not exist: {folder}. Give the folder that holds the images.")
    return os.path.realpath(folder)


def resolve_path(base: str, path: str) -> str | None:
    """The absolute path of `path` in the folder `base` (a real path); None when its real path lies outside."""
    absolute = os.path.join(base, path)
    real = os.path.realpath(absolute)
    return absolute if real.startswith(base.rstrip(os.sep) + os.sep) else None


def find_files(
    folder: str | os.PathLike, pattern: str = "*", wanted: Callable[[Path], bool] = Path.is_file
) -> list[Path]:
    """The files below a folder whose names fit a pattern, and that are wanted, sorted.

    Raises:
        DataError: when one is a link out of the folder: what is read from there would be no part of the data.
    """
    base = os.path.realpath(folder)
    found = sorted(path for path in Path(folder).rglob(pattern) if wanted(path) and path.is_file())
    outside = [str(path) for path in found if path.is_symlink() and resolve_path(base, os.path.realpath(path)) is None]
    if outside:
        mend = "Put the files themselves there, or take the links out."
        raise DataError(list_problems(f"{folder}: links out of the folder", [(p, "a link") for p in outside], mend))
    return found


def file_problem(base: str, path: Any, folders: dict[str, str] | None = None) -> str | None:
    """Why the file cannot be used without opening it: outside `base`, missing, empty; None when it can.

    With `folders`, a dictionary that several calls share, the real path of each folder is looked up once.

    A folder may be that of a DICOM series: something must be in it.
    """
    if not isinstance(path, str) or not path:
        return "no path"
    try:
        if folders is not None and _is_plain_file(base, path, folders):
            return None
        absolute = resolve_path(base, path)
        if absolute is None:
            return "lies outside the dataset folder"
        if os.path.isdir(absolute):
            return _folder_problem(base, absolute)
        if not os.path.isfile(absolute):
            return "missing"
        return None if os.path.getsize(absolute) else "zero bytes"
    except (OSError, ValueError) as e:  # no permission, or a NUL in the path
        return f"cannot be read ({type(e).__name__})"


def _folder_problem(base: str, folder: str) -> str | None:
    """Why the folder of a series cannot be used: nothing is in it, or a link out of `base`."""
    with os.scandir(folder) as found:
        files = list(found)
    if any(file.is_symlink() and resolve_path(base, file.path) is None for file in files):
        return "lies outside the dataset folder"
    return None if files else "empty folder"


def _is_plain_file(base: str, path: str, folders: dict[str, str]) -> bool:
    """Whether one look tells that all is well: no link, something in it, in a folder that is known to be inside."""
    folder, name = os.path.split(os.path.join(base, path))
    if name in ("", ".", ".."):
        return False
    if folder not in folders:
        folders[folder] = os.path.realpath(folder) + os.sep
    try:
        status = os.lstat(os.path.join(folder, name))
    except OSError:
        return False
    inside = folders[folder].startswith(base.rstrip(os.sep) + os.sep)
    return inside and stat.S_ISREG(status.st_mode) and status.st_size > 0


@many_objects()
def load_datalist(
    path: str | os.PathLike,
    section: str,
    dataset_dir: str | os.PathLike | None = None,
    keys: Sequence[str] | str = ("image",),
    report: bool = True,
) -> list[dict[str, Any]]:
    """Load one section of a datalist, with absolute paths, after checking every entry.

    Every path and report is looked at, the header of up to 2,000 images, evenly spaced, and whether a patient is in
    another section too. What else may be broken, `python -m monai_mgca.data check` finds.

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
            " it with patient-wise splits, e.g. `python -m monai_mgca.data csv ... --fractions 0.8 0.1 0.1`, or name"
            " a section that is there."
        )
    keys = (keys,) if isinstance(keys, str) else tuple(keys)
    base = find_dataset_dir(path, dataset_dir)
    problems = _section_problems(document, section, base, keys, report)
    if problems:
        title = f"{path}: {len(problems)} problems in section '{section}' (dataset folder {base})"
        mend = (
            "Give the right dataset_dir, or mend the files. `python -m monai_mgca.data check` with this datalist finds"
            " all that is broken, and with --write-clean FILE leaves it out."
        )
        raise DataError(list_problems(title, problems, mend))
    return [{**entry, **{key: os.path.join(base, entry[key]) for key in keys}} for entry in entries]


def _section_problems(
    document: Mapping[str, Any], section: str, base: str, keys: Sequence[str], report: bool
) -> list[tuple[Hashable, str]]:
    """(file, reason) of what is bad: every path and report, some headers, and the patients."""
    entries = document[section]
    folders: dict[str, str] = {}

    def check(entry: dict[str, Any]) -> list[tuple[Hashable, str]]:
        paths = {key: entry.get(key) for key in keys}
        found = [(p or f"(an entry without '{key}')", file_problem(base, p, folders)) for key, p in paths.items()]
        if report:
            found.append((entry.get("image"), report_reason(entry.get("report"))))
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
