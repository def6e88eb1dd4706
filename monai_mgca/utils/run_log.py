# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The log file of a run."""

from __future__ import annotations

import logging
import os
import traceback
from contextlib import suppress
from logging.handlers import MemoryHandler
from pathlib import Path

from monai_mgca.utils.console import VisibleFormatter

__all__ = ["RunLog", "keep_error", "start_run_log", "stop_run_log"]

# what the engines say of themselves; the bundle's logging.conf keeps these from the console
CHATTER = ("ignite", "monai.handlers.StatsHandler")
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
KEPT = 10_000


class _LogFile(logging.FileHandler):
    """A file that is left as it is where the disk is full, which the error of the training itself reports."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's own name
        """Remember it: logging would print a traceback of each record."""
        self.failed = True

    def close(self) -> None:
        """Close the file, also where its end cannot be written."""
        with suppress(OSError):
            super().close()


class RunLog(MemoryHandler):
    """Writes all that is logged into a file, what the engines say of themselves at the level DEBUG.

    The file is begun when an engine starts or an error comes: what only makes a workflow and looks at it writes
    nothing. A file that is there is continued. Where none can be written, nothing is: other checks report the folder.

    Args:
        path: of the file; of several processes each but the first has one of its own, ``run_rank1.log``.

    Example::

        log = RunLog("eval/run.log")
        logging.getLogger().addHandler(log)
    """

    def __init__(self, path: str | os.PathLike) -> None:
        super().__init__(KEPT, flushLevel=logging.ERROR, flushOnClose=False)
        self.path = Path(path)
        self.begun = False
        self._last: logging.LogRecord | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, or write all that were kept."""
        # an engine's comes twice, by its own logger and by the root, where those are not kept from the console
        if record is self._last:
            return
        self._last = record
        if record.name.split(".")[0] == "ignite" or record.name in CHATTER:
            # an engine speaks, so it runs: the file is wanted from now on
            self.flushLevel = logging.DEBUG
            if record.levelno == logging.INFO:
                record = logging.makeLogRecord({**vars(record), "levelno": logging.DEBUG, "levelname": "DEBUG"})
        super().emit(record)

    def flush(self) -> None:
        """Write what was kept."""
        if not self.begun and self.buffer:
            self.begun = True
            from monai_mgca.utils.dist import rank  # which imports torch

            if rank() > 0:
                self.path = self.path.with_name(f"{self.path.stem}_rank{rank()}{self.path.suffix}")
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                target = _LogFile(self.path, encoding="utf-8")
                target.setFormatter(VisibleFormatter(FORMAT))
                self.setTarget(target)
            except OSError:
                pass
        super().flush()
        self.buffer.clear()

    def keep(self, error: BaseException) -> bool:
        """Write an error with its whole traceback; False where no file can be written."""
        text = "".join(traceback.format_exception(error)).rstrip()
        self.emit(
            logging.makeLogRecord({"name": __name__, "levelno": logging.ERROR, "levelname": "ERROR", "msg": text})
        )
        return isinstance(self.target, _LogFile) and not self.target.failed

    def close(self) -> None:
        """Close the file."""
        target = self.target
        super().close()
        if target is not None:
            target.close()


_current: list[RunLog] = []


def start_run_log(path: str | os.PathLike) -> RunLog:
    """Write what this process logs from now on into a file, in place of the one before.

    Args:
        path: of the file.

    Example::

        start_run_log("eval/run.log")
    """
    stop_run_log()
    log = RunLog(path)
    for name in (None, *CHATTER):
        logging.getLogger(name).addHandler(log)
    _current.append(log)
    return log


def keep_error(error: BaseException) -> Path | None:
    """Write an error with its whole traceback into the file.

    Args:
        error: as it was caught.

    Returns:
        The file, None where there is none.
    """
    return _current[0].path if _current and _current[0].keep(error) else None


def stop_run_log() -> None:
    """Close the file, if there is one."""
    while _current:
        log = _current.pop()
        for name in (None, *CHATTER):
            logging.getLogger(name).removeHandler(log)
        log.close()
