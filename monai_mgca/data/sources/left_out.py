# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What a source prints and writes beside its datalist: classes with their numbers, names of what was dropped."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_mgca.data.entry import Entry, has_value
from monai_mgca.io.csv_file import write_csv

__all__ = ["count_classes", "write_left_out"]


def count_classes(header: Mapping[str, Any], entries: Sequence[Entry]) -> Iterator[str]:
    """Lines that count what the entries have of each class: images with a label, boxes, images with masks.

    Args:
        header: of the datalist, with "classes", "box_classes" and "mask_classes" where there are such.
        entries: of all sections.

    Example::

        print(*count_classes({"classes": ["edema"]}, [{"labels": [1]}, {"labels": [0]}]))  # 1 class of ...: edema 1
    """
    labels = Counter(i for entry in entries for i, value in enumerate(entry.get("labels") or ()) if value == 1)
    boxes = Counter(index for entry in entries for index in entry.get("box_labels") or ())
    masks = sum(has_value(entry, "mask") for entry in entries)
    if names := header.get("classes"):
        yield _count("labels (images that have it)", names, labels)
    if names := header.get("box_classes"):
        yield _count("boxes", names, boxes)
    if masks:
        names = header.get("mask_classes") or ()
        yield f"images with masks: {masks}" + (f" ({', '.join(map(str, names))})" if names else "")


def _count(what: str, names: Sequence[str], counts: Mapping[int, int]) -> str:
    counted = ", ".join(f"{name} {counts.get(i, 0)}" for i, name in enumerate(names))
    classes = "1 class" if len(names) == 1 else f"{len(names)} classes"
    return textwrap.fill(f"{classes} of {what}: {counted}", 110, subsequent_indent="  ", break_on_hyphens=False)


def write_left_out(path: Path, left_out: Sequence[tuple[str, str]]) -> None:
    """Write what was dropped as a table; of nothing none, and an earlier one goes.

    Args:
        path: of the table.
        left_out: (name, reason) of each.

    Example::

        write_left_out(Path("dataset.dropped.csv"), [("1.png", "empty report")])
    """
    if not left_out:
        path.unlink(missing_ok=True)
        return
    write_csv(path, [("name", "reason"), *left_out])
