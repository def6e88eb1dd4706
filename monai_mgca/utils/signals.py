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

import mmap
import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType

__all__ = ["StopSignals", "leave_after_signal"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# what comes so soon is the same wish on another way: to the process itself, and by torchrun to all of its group
_SAME = 1.0
_obeyed: list[int] = []


class StopSignals:
    """Notes SIGTERM and SIGINT in place of dying of them, while a training runs: a context manager.

    A second one, more than a second later, ends the process at once. What was installed for these signals before is
    there again afterwards; a signal that is ignored stays ignored. Outside of the main thread nothing is done.

    The worker processes of a data loader, which get a signal that is sent to the whole group as Ctrl-C is, live on
    until the training is over: it needs them to finish its step.

    Example::

        with StopSignals() as signals:
            print(signals.received)
    """

    def __init__(self) -> None:
        self.received = 0
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopSignals:
        self.received = 0
        _obeyed.clear()
        if threading.current_thread() is threading.main_thread():
            self._process = os.getpid()
            self._over = mmap.mmap(-1, 1)  # shared with the processes that are forked from now on
            for number in _SIGNALS:
                previous = signal.getsignal(number)
                if previous not in (None, signal.SIG_IGN):
                    self._previous[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)  # type: ignore[arg-type]
        if self._previous:
            self._over[0] = 1
        self._previous = {}

    @staticmethod
    def obey(number: int) -> None:
        """Have :func:`leave_after_signal` end the process with the code of a signal.

        Args:
            number: of the signal, which another process may have got.
        """
        _obeyed[:] = [number]

    def _take(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            if self._over[0]:
                _die(number)
        elif not self.received:
            self.received, self._when = number, time.monotonic()
        elif time.monotonic() - self._when > _SAME:
            _die(number)


def _die(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def leave_after_signal() -> None:
    """End the program with code 128 + N where a training was stopped by signal N; else do nothing.

    It stands last in a config, where all is tidied up.

    Raises:
        SystemExit: after such a signal.

    Example::

        leave_after_signal()
    """
    if _obeyed:
        sys.exit(128 + _obeyed.pop())
