# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What a training looks for before it begins, beside the files themselves: little, so that it costs little."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from monai_mgca.data.entry import Sections, as_text
from monai_mgca.io import kind_of_name
from monai_mgca.io.image_header import look_at_header
from monai_mgca.text.sentence_cleaner import LETTERS, SentenceCleaner

__all__ = ["MAX_HEADERS", "chosen_for_a_look", "header_reason", "report_reason", "shared_with_other_sections"]

# Headers are looked at of so many images of a section, evenly spaced over it.
MAX_HEADERS = 2000
_REFUSED = ("not an image", "unreadable", "no decoder", "decompression bomb", "wrong number of channels")
_CLEAN = {letters: SentenceCleaner(letters=letters) for letters in LETTERS}


def chosen_for_a_look(entries: Sequence[Any], limit: int = MAX_HEADERS) -> Iterator[Any]:
    """At most so many entries, evenly spaced.

    Args:
        entries: of a section.
        limit: how many.

    Example::

        print(list(chosen_for_a_look(range(10), 4)))  # [0, 2, 5, 7]
    """
    count = min(limit, len(entries))
    return (entries[i * len(entries) // count] for i in range(count))


def header_reason(base: str, path: Any) -> str | None:
    """Why an image that is there cannot be read, by its header alone; None where that does not say.

    Args:
        base: the dataset folder.
        path: of the image, relative to it.
    """
    # volumes are NIfTI, folders, or several frames
    if not isinstance(path, str) or kind_of_name(path) not in ("picture", "dicom"):
        return None
    problem = look_at_header(os.path.join(base, path)).problem
    return problem if problem in _REFUSED else None


def report_reason(report: Any, letters: str = "ascii") -> str | None:
    """Why a report cannot be trained on.

    Args:
        report: of an entry.
        letters: of the datalist, see :class:`monai_mgca.transforms.CleanReport`.
    """
    text = as_text(report)
    return _CLEAN[letters].why_dropped(text) if text else "empty report"


def shared_with_other_sections(splits: Sections, section: str) -> int:
    """The number of a section's patients who are in another one too: what is learned of them would be tested on them.

    Args:
        splits: the sections' entries.
        section: its name.

    Example::

        print(shared_with_other_sections({"training": [{"patient": "1"}], "test": [{"patient": "1"}]}, "test"))  # 1
    """
    own = {str(entry.get("patient")) for entry in splits[section] if entry.get("patient") not in (None, "")}
    others = (str(e.get("patient")) for other, entries in splits.items() if other != section for e in entries)
    return len(own.intersection(others))
