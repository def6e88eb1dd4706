# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Reports of studies: one text for all images of a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from monai_mgca.utils import DataError
from monai_mgca.utils.progress import list_problems

__all__ = ["reports_of_folders"]


def reports_of_folders(images: Iterable[str], texts: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """The report of each image: the one text in its folder, or beside the folder under its name.

    Where there is none, the folder above counts, as of a study whose series have folders of their own; never the
    outermost one, where a text may be about anything, except for images that lie there.

    Args:
        images: paths in the folder of images, with or without suffix.
        texts: path in the folder of reports, without suffix, and file of each text.

    Raises:
        DataError: when a folder has several texts: which of them is the report?

    Example::

        texts = [("7/report", Path("reports/7/report.txt"))]
        print(reports_of_folders(["7/a", "7/series/b"], texts))
    """
    texts_of: dict[str, list[Path]] = {}
    for name, file in texts:
        for folder in {str(PurePosixPath(name).parent), name}:
            texts_of.setdefault(folder, []).append(file)
    chosen: dict[str, Path] = {}
    several: dict[str, str] = {}
    for image in images:
        inner, *outer = map(str, PurePosixPath(image).parents)
        nearest = next((place for place in (inner, *outer[:-1]) if place in texts_of), None)
        if nearest is not None and len(texts_of[nearest]) == 1:
            chosen[image] = texts_of[nearest][0]
        elif nearest is not None:
            several[nearest] = ", ".join(sorted(file.name for file in texts_of[nearest]))
    if several:
        mend = "With one report for a folder, leave one text in each."
        raise DataError(list_problems(f"{len(several)} folders with several reports", list(several.items()), mend))
    return chosen
