# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What is done with many items: looked at in threads, with a progress bar, and reported by file where they are bad."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.pool import ThreadPool
from typing import Any

from tqdm import tqdm

from monai_mgca.utils.console import Lines, visible

__all__ = ["list_problems", "many_objects", "map_in_threads", "progress_bar"]


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
    return tqdm(items, desc=visible(description), total=total, delay=2)


def map_in_threads(
    function: Callable[[Any], Any], items: Sequence, description: str, num_workers: int | None = None
) -> list:
    """Apply a function that waits for files to all items, in threads; the results are in the items' order.

    `num_workers` threads open whole files; the default, more threads than processors, suits a look at each. Few items
    are looked at without threads, which take longer to start.
    """
    threads = min(num_workers, len(items)) if num_workers else min(32, 4 * (os.cpu_count() or 1), len(items) // 32)
    if threads < 2:
        return list(progress_bar(map(function, items), description, len(items)))
    # large pieces where there are many items: handing them over would take longer than a look at a file
    piece = max(1, min(256, len(items) // (8 * threads)))
    with ThreadPool(threads) as pool:
        return list(progress_bar(pool.imap(function, items, chunksize=piece), description, len(items)))


def list_problems(title: str, problems: Sequence[tuple[str, str]], mend: str, limit: int = 20) -> Lines:
    """Write (file, reason) pairs as a message: the first `limit` of them and the number of the rest."""
    lines = [f"{title}:", *(f"  {file}: {reason}" for file, reason in problems[:limit])]
    if len(problems) > limit:
        lines.append(f"  ... and {len(problems) - limit} more")
    return Lines("\n".join(map(visible, [*lines, mend])))
