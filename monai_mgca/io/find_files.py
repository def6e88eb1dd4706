# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The images below a folder, and what else lies there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from monai_mgca.io.dicom.series_tags import describes_image
from monai_mgca.io.kind import Kind, is_clutter, quick_kind, stem_of
from monai_mgca.utils import DataError
from monai_mgca.utils.console import name_some

__all__ = ["FoundFiles", "find_image_files", "list_files", "refuse_same_names"]


class FoundFiles(NamedTuple):
    """What lies below a folder.

    Attributes:
        kinds: path to kind of the images, in the paths' order.
        others: the other files, which are no image by name or content, as DICOM's reports and contours, or of a kind
            that is not wanted; hidden ones and what a system left there are not listed.
    """

    kinds: dict[Path, Kind]
    others: list[Path]

    def describe_others(self, folder: str | os.PathLike, what: str = "image") -> str | None:
        """A line that counts and names the other files; None where there are none.

        Args:
            folder: that the names are relative to.
            what: that they are not.
        """
        if not self.others:
            return None
        files = "1 file is" if len(self.others) == 1 else f"{len(self.others)} files are"
        return f"{files} no {what} by name or content: {name_some(p.relative_to(folder) for p in self.others)}"


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be searched ({type(error).__name__}): allow it, or move it away.")


def list_files(folder: str | os.PathLike) -> Iterator[Path]:
    """All files below a folder that may be the user's data, by folder; links to folders are not followed.

    Args:
        folder: searched but for hidden folders and those of systems in it.

    Raises:
        DataError: when a folder may not be read.

    Example::

        print(sorted(list_files("radiographs")))
    """
    for place, folders, names in os.walk(os.fspath(folder), onerror=_refuse):
        folders[:] = sorted(name for name in folders if not is_clutter(name))
        for path in (Path(place, name) for name in sorted(names) if not is_clutter(name)):
            if path.is_file():
                yield path


def find_image_files(folder: str | os.PathLike, wanted: Callable[[Kind], bool] = bool) -> FoundFiles:
    """All images below a folder. A file whose name says what it is is not opened, unless it is DICOM's.

    Args:
        folder: searched with all its subfolders.
        wanted: the kinds to take. Defaults to all.

    Raises:
        DataError: when a folder may not be read.

    Example::

        print(list(find_image_files("radiographs").kinds))
    """
    kinds, others = dict[Path, Kind](), list[Path]()
    for path in sorted(list_files(folder)):
        kind = quick_kind(path)
        if kind is None or not wanted(kind) or (kind == "dicom" and not describes_image(path)):
            others.append(path)
        else:
            kinds[path] = kind
    return FoundFiles(kinds, others)


def refuse_same_names(files: Iterable[Path], folder: str | os.PathLike) -> None:
    """Refuse images that have one name but for the suffix: what is made of them would have one name too.

    Args:
        files: images, below the folder.
        folder: that names are relative to.

    Raises:
        DataError: naming them: is one image there two times, or an old state of it?

    Example::

        refuse_same_names([Path("ct/1.nii"), Path("ct/2.nii.gz")], "ct")
    """
    files_of: dict[str, list[Path]] = {}
    for path in files:
        files_of.setdefault(stem_of(str(path)), []).append(path)
    if twice := [path.relative_to(folder) for paths in files_of.values() for path in paths if len(paths) > 1]:
        raise DataError(
            f"{folder} holds several images of one name: {name_some(twice)}. Leave one of each, or rename them."
        )
