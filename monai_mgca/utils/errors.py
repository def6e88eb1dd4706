# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The errors that users meet, and how a run ends with one sentence in place of a traceback."""

from __future__ import annotations

import errno
import os
import re
import sys
from traceback import extract_tb
from types import TracebackType

from tqdm import tqdm

from monai_mgca.utils.console import Lines, guard_console, say, visible
from monai_mgca.utils.run_log import keep_error

__all__ = [
    "CheckpointError",
    "DataError",
    "FolderInUseError",
    "OptionError",
    "StorageError",
    "explain_errors",
    "first_cause",
    "storage_error",
]


class _Told:
    """An error that shows control characters, which names from outside may hold, in place of giving them on."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(visible(item) if isinstance(item, str) else item for item in args))


class DataError(_Told, ValueError):
    """What is wrong with the data, naming the files or keys concerned and how to mend them.

    The message is one line, unless it is a :class:`monai_mgca.utils.console.Lines`.

    Args:
        args: the message.
        reason: of an image that cannot be read, one of the check's reasons, such as "truncated".
    """

    def __init__(self, *args: object, reason: str | None = None) -> None:
        super().__init__(*args)
        self.reason = reason


class CheckpointError(_Told, ValueError):
    """A checkpoint that does not fit, naming the tensors that are missing, foreign or of another shape."""


class OptionError(_Told, ValueError):
    """An option that no config has, or a value that an option cannot have, naming it and what it can be."""


class StorageError(_Told, OSError):
    """A file or folder that cannot be written, naming it, why, and how to mend it."""


class FolderInUseError(StorageError):
    """A folder that another training writes to, naming who that is."""


# a file that only is read does not fail so
_ONLY_WRITING = {
    errno.ENOSPC: "the disk is full: make room on it, or choose a folder on another one",
    errno.EDQUOT: "your quota is used up: make room, or choose a folder elsewhere",
    errno.EROFS: "the file system is read-only: choose a folder elsewhere",
    errno.EFBIG: "it would be larger than files may be here (ulimit -f): raise the limit, or choose another folder",
}
_FORBIDDEN = "you have no permission: make the folder writable for this user, or choose another one"
_TAKEN = "a folder has its name: rename that one, or choose another name or folder"
_REASONS = {**_ONLY_WRITING, errno.EACCES: _FORBIDDEN, errno.EPERM: _FORBIDDEN, errno.EISDIR: _TAKEN}
_KEPT = "What was written before is kept; a training goes on with --resume true."


def storage_error(error: BaseException, path: str | os.PathLike) -> StorageError | None:
    """What an error means that came while a file was written; None if it is about something else.

    Args:
        error: as it was caught; torch's, when a write fails, is a ``RuntimeError`` in whose context is the system's.
        path: the file.
    """
    found = error if isinstance(error, OSError) else error.__context__
    if not isinstance(found, OSError) or found.errno not in _REASONS:
        return None
    return StorageError(f"cannot write {os.fspath(path)}: {_REASONS[found.errno]}. {_KEPT}")


def first_cause(error: BaseException) -> BaseException:
    """What an error is about, below the ``RuntimeError`` that MONAI puts around it once or several times.

    What happened in a process that loads data is taken out of the text that torch makes of it, and what the system
    says of a full disk is reported with the way to mend it.

    Args:
        error: as it was caught. What another library said below our own error is left alone.
    """
    while type(error) is RuntimeError and error.__cause__ is not None and not _is_lost_worker(error):
        error = error.__cause__
    if (lost := _lost_worker(error)) is not None:
        return RuntimeError(f"{str(lost).strip().rstrip('.')}: {_LOST_WORKER} {_KEPT}")
    if _IN_WORKER.match(str(error)):
        return _raised_in_worker(str(error))
    if isinstance(error, OSError) and error.errno in _ONLY_WRITING:
        return storage_error(error, error.filename or _file_of(error)) or error
    return error


def _file_of(error: OSError) -> str:
    """Which file it is that the system does not name, by where the error was raised."""
    curves = any("tensorboard" in frame.filename for frame in extract_tb(error.__traceback__))
    return "the curves in output_dir" if curves else "a file in ckpt_dir, output_dir or cache_dir"


_LOST_WORKER = (
    "a process that loads data was ended from outside. Most often the memory was full: lower num_workers or "
    "batch_size, or give the job more memory (a container also more shared memory, --shm-size)."
)
_IN_WORKER = re.compile(r"Caught \w+ in DataLoader worker process \d+\.\nOriginal Traceback")
_RAISED = re.compile(r"^(?:\w+\.)*(\w+): (.*?)(?=\n\n(?:The above|During handling)|\s*\Z)", re.MULTILINE | re.DOTALL)


def _is_lost_worker(error: BaseException | None) -> bool:
    return type(error) is RuntimeError and str(error).startswith("DataLoader worker (pid")


def _lost_worker(error: BaseException | None) -> BaseException | None:
    """The error of a killed worker: the lowest such error, which names the signal.

    The signal comes at any time: where torch was writing a file, its own error stands above.
    """
    found = None
    while type(error) is RuntimeError:
        found = error if _is_lost_worker(error) else found
        error = error.__context__
    return found


def _raised_in_worker(text: str) -> BaseException:
    """The first cause in the text of a whole traceback, whose errors stand in the order in which they were raised."""
    raised = _RAISED.findall(text.split("\n", 1)[1]) or [(text.split()[-1], "without a message")]
    name, message = next((found for found in reversed(raised) if found[0] != "RuntimeError"), raised[-1])
    known = {kind.__name__: kind for kind in (DataError, CheckpointError, StorageError)}
    return known[name](Lines(message)) if name in known else RuntimeError(f"{name}: {message}")


def _end_bars() -> None:
    """Progress bars that go on when an error comes end their line, on which the error would follow."""
    bars = list(getattr(tqdm, "_instances", ()))
    for bar in bars:
        bar.close()
    if bars:
        print(file=sys.stderr)


# what gloo and NCCL say in a process when another one is gone
_GONE = ("Connection closed by peer", "Connection reset by peer", "remote process exit")


def explain_errors() -> None:
    """End a failed program with the first cause of its error, which MONAI's bundle wraps several times.

    The cause stands alone on the console, and the whole traceback in the log file of
    :func:`monai_mgca.utils.run_log.start_run_log`; without one, the traceback follows the cause, but for options that
    are refused before there is one. Of several processes, those that another one's failure ends say so in one line, so
    that the message of that one can be found. Control characters are shown, from now on also in what is logged.
    """

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        """As ``sys.excepthook``."""
        if issubclass(kind, KeyboardInterrupt):
            print("interrupted", file=sys.stderr)
            return
        _end_bars()
        cause = first_cause(error)
        from monai_mgca.utils.dist import rank, world_size  # which import torch

        if world_size() > 1 and any(text in str(cause) for text in _GONE):
            message = str(cause).splitlines()[0]
            say(f"Process {rank()} ends because it lost another one, which says the cause: {message}", file=sys.stderr)
            return
        # the kind of another's error may be all that it says, as of KeyError: 'x'
        ours = isinstance(cause, (DataError, CheckpointError, OptionError, StorageError))
        say(f"error: {cause}" if ours else f"error: {type(cause).__name__}: {cause}", file=sys.stderr)
        if isinstance(cause, FolderInUseError):  # the log is that of the other training
            return
        if (path := keep_error(error)) is not None:
            say(f"The traceback is at the end of {path}.", file=sys.stderr)
        elif not isinstance(cause, OptionError):
            sys.__excepthook__(kind, error, traceback)

    sys.excepthook = hook
    guard_console()
