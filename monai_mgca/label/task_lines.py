# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The last lines that a task of the server printed, in the place of MONAI Label's list of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

__all__ = ["TaskLines"]


class TaskLines(deque):
    """Lines that a thread adds while an answer reads them: it reads those that are there when it begins.

    With MONAI Label's own a client that asks for a task's status at that moment gets an error in its place.

    Example::

        print(list(TaskLines(["a", "b", "c"], maxlen=2)))  # ['b', 'c']
    """

    def __iter__(self) -> Iterator[str]:
        while True:
            try:
                return iter(list(super().__iter__()))
            except RuntimeError:  # a line came between the making of the iterator and its first step: read again
                continue
