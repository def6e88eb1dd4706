# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Where the images of a table's rows are: paths, parts of paths in several columns, or names to look for."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from monai_mgca.data.sources.tables.cells import clean_cell, is_missing, refuse_list
from monai_mgca.io import kind_of_name, list_files, stem_of
from monai_mgca.utils import DataError
from monai_mgca.utils.console import name_some

__all__ = ["ImageColumns"]

_FIELD = re.compile(r"\{([^{}]+)\}")


class ImageColumns:
    """The columns of a table that hold the images' paths, and how a path follows from them.

    Args:
        image: the column of paths, or of names.
        template: in its place a path with columns in braces, such as "{ImageDir}/{ImageID}".
        images: folders that are searched, with all in them, for the file that a path or name means, with or without
            its suffix. By default a path is taken as it is.
        base: the dataset folder, a real path; paths are relative to it.

    Raises:
        DataError: when both or none of ``image`` and ``template`` are given, the template names no column, or a folder
            is not there.

    Example::

        columns = ImageColumns(template="train/{image_id}.dicom", base="/data/vindr")
        print(columns.path({"image_id": "50a4"}))  # train/50a4.dicom
    """

    def __init__(
        self,
        image: str | None = None,
        template: str | None = None,
        images: Sequence[str | os.PathLike] = (),
        base: str = ".",
    ) -> None:
        if bool(image) == bool(template):
            raise DataError("name either the column of images (--image), or a template of paths (--image-template).")
        self.template, self.base = template, base
        self.columns = [image] if image else list(dict.fromkeys(_FIELD.findall(template or "")))
        if not self.columns:
            raise DataError(f"the template '{template}' names no column in braces, as {{folder}}/{{name}}.png does.")
        self.found = _files_by_name(images) if images else None

    def path(self, row: Mapping[str, str]) -> str:
        """The path of a row's image in the dataset folder; empty where the row has none.

        Args:
            row: cells by column.

        Raises:
            DataError: when a cell is a list, or several files have the name that is looked for.
        """
        cells = {column: clean_cell(row[column]) for column in self.columns}
        if any(map(is_missing, cells.values())):
            return ""
        for column, cell in cells.items():
            refuse_list(cell, column)
        path = _FIELD.sub(lambda match: cells[match[1]], self.template) if self.template else cells[self.columns[0]]
        if "\0" in path:  # no file has such a name; Python 3.11 would cut it there
            return path
        if "\\" in path and not os.path.exists(os.path.join(self.base, path)):
            path = path.replace("\\", "/")  # of Windows
        if self.found is not None:
            return os.path.relpath(self._look_for(path), self.base)
        # tables often hold absolute paths; a datalist can be moved only with relative ones
        return os.path.relpath(os.path.realpath(path), self.base) if os.path.isabs(path) else os.path.normpath(path)

    def _look_for(self, path: str) -> str:
        """The one file that the path or name means; the path itself, which is missing then, where there is none."""
        tail = "/" + _composed(os.path.normpath(path)).lstrip("/")
        known = (self.found or {}).get(os.path.basename(tail), ())
        ends = {file: _composed(file) for file in known}
        files = [file for file, end in ends.items() if end.endswith(tail) or stem_of(end).endswith(tail)]
        if len(files) > 1:
            names = name_some(os.path.relpath(file, self.base) for file in files)
            mend = "Name the folder too (--image-template), or search fewer folders."
            raise DataError(f"{len(files)} files are meant by '{path}': {names}. {mend}")
        return files[0] if files else os.path.join(self.base, path)


def _composed(name: str) -> str:
    """A name whose accents are one with their letters; macOS writes them behind."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _files_by_name(folders: Sequence[str | os.PathLike]) -> dict[str, list[str]]:
    """The real paths of all files below folders, by name and by name without the suffix of an image."""
    found: dict[str, dict[str, None]] = {}
    for folder in folders:
        if not Path(folder).is_dir():
            raise DataError(f"--images: there is no folder {folder}.")
        for path in map(str, list_files(os.path.realpath(folder))):
            name = _composed(os.path.basename(path))
            for key in {name, stem_of(name) if kind_of_name(name) else name}:
                found.setdefault(key, {})[path] = None
    return {name: list(paths) for name, paths in found.items()}
