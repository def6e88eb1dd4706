# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Ends a training after a signal, with a checkpoint."""

from __future__ import annotations

import copy
import functools
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

__all__ = ["StopSignals", "leave_after_signal", "shield_workers", "was_stopped"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# what comes so soon is the same wish on another way: to the process itself, and by torchrun to all of its group
_SAME = 1.0
# macOS and Windows have no such call: there SIGTERM ends a worker
_CAN_WAIT = hasattr(signal, "sigwaitinfo")
_obeyed: list[int] = []


class StopSignals:
    """Notes SIGTERM and SIGINT in place of dying of them, while a training runs: a context manager.

    A second one, more than a second later, ends the process at once. What was installed for these signals before is
    there again afterwards; a signal that is ignored stays ignored. Outside of the main thread nothing is done.

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
            for number in _SIGNALS:
                previous = signal.getsignal(number)
                if previous not in (None, signal.SIG_IGN):
                    self._previous[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)  # type: ignore[arg-type]
        self._previous = {}

    @staticmethod
    def obey(number: int) -> None:
        """Have :func:`leave_after_signal` end the process with the code of a signal.

        Args:
            number: of the signal, which another process may have got.
        """
        _obeyed[:] = [number]

    def _take(self, number: int, frame: FrameType | None) -> None:
        if not self.received and os.getpid() == self._process:
            self.received, self._when = number, time.monotonic()
        elif os.getpid() != self._process or time.monotonic() - self._when > _SAME:
            _die(number)


def _die(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def shield_workers(loader: Any) -> None:
    """Have a data loader's worker processes outlive what is sent to the whole group, as Ctrl-C or torchrun's SIGTERM.

    The training needs its workers until it has finished its step. They end when it ends, or when it ends them.

    Args:
        loader: ``torch.utils.data.DataLoader``, whose ``worker_init_fn`` stays; without workers nothing is done.

    Example::

        shield_workers(torch.utils.data.DataLoader(range(4), num_workers=1))
    """
    if not loader.num_workers:
        return
    loader.worker_init_fn = functools.partial(_shield, loader.worker_init_fn)
    context: Any = loader.multiprocessing_context or multiprocessing.get_context()
    if _CAN_WAIT and context.get_start_method() == "fork":

        class Worker(context.Process):
            """A process that is begun with the signals blocked, so that none comes before the worker shields itself."""

            def start(self) -> None:
                mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
                try:
                    super().start()
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, mask)

        loader.multiprocessing_context = copy.copy(context)
        loader.multiprocessing_context.Process = Worker


def _shield(init: Callable[[int], None] | None, worker: int) -> None:
    """What the worker of a number does at its start, with the loader's own ``worker_init_fn``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _CAN_WAIT:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey_parent, daemon=True).start()
    if init is not None:
        init(worker)


def _obey_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def was_stopped() -> bool:
    """Whether a training was ended by a signal, after which nothing but leaving is to be done."""
    return bool(_obeyed)


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
