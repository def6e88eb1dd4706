# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Paths of a data set: relative to its folder, and never out of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from monai_mgca.io import is_clutter, list_files, quick_kind
from monai_mgca.utils import DataError
from monai_mgca.utils.progress import list_problems

__all__ = ["file_problem", "find_dataset_dir", "find_files", "refuse_links_out", "resolve_path"]


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
    """The files below a folder whose names, in lower case, fit a pattern, and that are wanted, sorted.

    Hidden files and what systems leave in folders are no files of the user's.

    Raises:
        DataError: when one is a link out of the folder: what is read from there would be no part of the data.
    """
    found = sorted(path for path in list_files(folder) if fnmatchcase(path.name.lower(), pattern) and wanted(path))
    refuse_links_out(folder, found)
    return found


def refuse_links_out(folder: str | os.PathLike, files: Iterable[Path]) -> None:
    """Refuse links out of a folder among its files.

    Raises:
        DataError: naming them.
    """
    base = os.path.realpath(folder)
    outside = [str(path) for path in files if path.is_symlink() and resolve_path(base, os.path.realpath(path)) is None]
    if outside:
        mend = "Put the files themselves there, or take the links out."
        raise DataError(list_problems(f"{folder}: links out of the folder", [(p, "a link") for p in outside], mend))


def file_problem(base: str, path: Any, folders: dict[str, str] | None = None) -> str | None:
    """Why the file cannot be used without opening it: outside `base`, missing, empty; None when it can.

    With `folders`, which several calls for one `base` share, the real path of each folder is looked up once.

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


def _is_plain_file(base: str, path: str, folders: dict[str, str]) -> bool:
    """Whether one look shows that all is well: no link, something in it, in a folder that is known to be inside."""
    folder, name = os.path.split(path)
    if name in ("", ".", ".."):
        return False
    if folder not in folders:
        real = os.path.realpath(os.path.join(base, folder)) + os.sep
        folders[folder] = real if real.startswith(base.rstrip(os.sep) + os.sep) else ""  # outside: a longer look
    if not folders[folder]:
        return False
    try:
        status = os.lstat(folders[folder] + name)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def _folder_problem(base: str, folder: str) -> str | None:
    """Why the folder of a series cannot be used: nothing is in it, a link out of `base`, or no DICOM file."""
    with os.scandir(folder) as found:
        files = [file for file in found if not is_clutter(file.name)]
    if any(file.is_symlink() and resolve_path(base, file.path) is None for file in files):
        return "lies outside the dataset folder"
    if not files:
        return "empty folder"
    is_series = any(file.is_file() and quick_kind(file) == "dicom" for file in files)
    return None if is_series else "a folder without DICOM slices"
