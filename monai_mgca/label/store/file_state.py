# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What changes when a study does, by which one knows that its embedding is to be computed again."""

from __future__ import annotations

import hashlib
import os

__all__ = ["file_state"]


def file_state(path: str | os.PathLike) -> str:
    """What changes when a file does, or one in a folder: where it is, its size and its time.

    Args:
        path: of a study.

    Example::

        open("a.txt", "w").close()
        print(file_state("a.txt").split(":")[1])  # 0
    """
    found = os.stat(path)
    state = f"{os.path.realpath(path)}:{found.st_size}:{found.st_mtime_ns}"
    if not os.path.isdir(path):
        return state
    with os.scandir(os.fspath(path)) as entries:
        files = sorted((entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries)
    return f"{state}:{hashlib.sha256(repr(files).encode()).hexdigest()}"
