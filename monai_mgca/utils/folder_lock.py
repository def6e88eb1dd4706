# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""One training at a time writes into a folder: the second is refused with the name of the first."""

from __future__ import annotations

import atexit
import logging
import os
import platform
import shlex
import stat
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from monai_mgca.utils.dist import gather_plain, rank
from monai_mgca.utils.errors import FolderInUseError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["LOCK", "claim_folders", "refuse_claimed", "release_folders", "run_claimed"]

logger = logging.getLogger(__name__)

LOCK = ".training.lock"
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_LONGEST = 500
_IN_USE = (
    "another training writes there ({}). Wait until it has ended, or give this one other folders by --ckpt_dir and "
    "--output_dir."
)
_FOREIGN = "{} is a link or no file of its own: remove it."


class _Claim(NamedTuple):
    handle: int
    process: int  # a lock is not inherited, as by a process that loads data, but this is
    made: list[Path]  # the folders that were made for it, the innermost first


_claims: dict[str, _Claim] = {}


def refuse_claimed(folders: Mapping[str, str | os.PathLike]) -> None:
    """Refuse folders that another process keeps, and keep none: what only looks at a training changes nothing.

    Of several processes all must call it.

    Args:
        folders: as those of :func:`claim_folders`.

    Raises:
        FolderInUseError: when another process holds one of them, saying which.

    Example::

        refuse_claimed({"ckpt_dir": "models", "output_dir": "eval"})
    """
    there = {name: folder for name, folder in folders.items() if os.path.lexists(_lock_of(folder))}
    known = {path for path in map(_lock_of, there.values()) if path in _claims}
    problem = _claim(there) if rank() == 0 else ""
    for path in map(_lock_of, there.values()):
        if path not in known:
            _release(path)
    if problem := gather_plain(problem)[0]:
        raise FolderInUseError(problem)


def run_claimed(folders: Mapping[str, str | os.PathLike], run: Callable[[], object]) -> None:
    """Keep folders while something runs, and until :func:`release_folders`; where it fails, they are free at once.

    Args:
        folders: as those of :func:`claim_folders`.
        run: such as a trainer's ``run``.

    Raises:
        FolderInUseError: as :func:`claim_folders`.

    Example::

        run_claimed({"ckpt_dir": "models", "output_dir": "eval"}, lambda: print("training"))
        release_folders({"ckpt_dir": "models", "output_dir": "eval"})
    """
    claim_folders(folders)
    try:
        run()
    except BaseException:
        release_folders(folders)
        raise


def claim_folders(folders: Mapping[str, str | os.PathLike]) -> None:
    """Keep folders for this process until it ends, or releases them: no other training may write to them.

    The system's lock on a file in each does so. The system forgets it with the process, however that ended; the file
    then is no hindrance, whatever it says. Where a file system has no locks, a warning says so; a folder that cannot be
    written is left to :func:`monai_mgca.utils.check_folders`. Of several processes, which all must call it, the first
    keeps them for all.

    Args:
        folders: by the name of the option that changes them.

    Raises:
        FolderInUseError: when another process holds one of them, saying which, or the file is a link; none is kept.

    Example::

        claim_folders({"ckpt_dir": "models", "output_dir": "eval"})
    """
    problem = _claim(folders) if rank() == 0 else ""
    if problem := gather_plain(problem)[0]:
        raise FolderInUseError(problem)


def release_folders(folders: Mapping[str, str | os.PathLike]) -> None:
    """Let others have what :func:`claim_folders` keeps; of other folders nothing is done.

    Args:
        folders: as they were given there.
    """
    for folder in folders.values():
        _release(_lock_of(folder))


def _claim(folders: Mapping[str, str | os.PathLike]) -> str:
    """Why they cannot be had; nothing when they are."""
    taken: list[str] = []
    for name, folder in folders.items():
        path = _lock_of(folder)
        if (known := _claims.get(path)) and known.process == os.getpid() and _is_at(known.handle, path):
            continue
        _release(path)  # of a folder that is no longer there
        try:
            _take(path)
        except FolderInUseError as error:
            for other in taken:
                _release(other)
            return f"{name} ({os.path.dirname(path)}): {error}"
        except OSError as error:
            if os.path.isdir(os.path.dirname(path)) and os.access(os.path.dirname(path), os.W_OK):
                message = f"{name} ({folder}) cannot be locked ({error.strerror or error})"
                logger.warning(f"{message}: a second training that writes there is not noticed.")
        else:
            taken.append(path)
    return ""


def _lock_of(folder: str | os.PathLike) -> str:
    return os.path.join(os.path.realpath(folder), LOCK)


def _take(path: str) -> None:
    if fcntl is None:
        raise OSError("this system has no such locks")
    folder = Path(path).parent
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    for _ in range(100):  # a holder that ends removes the file, and the folder that it made for it
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
                raise FolderInUseError(_FOREIGN.format(path))
            handle = os.open(path, _FLAGS, 0o666)
        except FileNotFoundError:
            continue
        try:
            _lock(handle, path)
            if _is_at(handle, path):
                _claims[path] = _Claim(handle, os.getpid(), made)
                return
        finally:
            if path not in _claims:
                os.close(handle)
    raise OSError("others take and leave it all the time")


def _lock(handle: int, path: str) -> None:
    if os.fstat(handle).st_nlink > 1:
        raise FolderInUseError(_FOREIGN.format(path))
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        holder = os.pread(handle, _LONGEST, 0).decode("utf-8", "replace") or "it has just begun"
        raise FolderInUseError(_IN_USE.format(holder)) from None
    with suppress(OSError):  # on a full disk nobody is named
        os.ftruncate(handle, 0)
        os.pwrite(handle, _this_process(), 0)


def _this_process() -> bytes:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    description = f"host {platform.node()}, process {os.getpid()}, since {since}: {shlex.join(sys.orig_argv)}"
    return description.encode("utf-8", "backslashreplace")[:_LONGEST]


def _is_at(handle: int, path: str) -> bool:
    """Whether an open file still is the one of that name."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except OSError:
        return False


def _release(path: str) -> None:
    claim = _claims.pop(path, None)
    if claim is None or claim.process != os.getpid():
        return
    with suppress(OSError):  # while it is locked, so that nobody has it by now
        if _is_at(claim.handle, path):
            os.unlink(path)
    os.close(claim.handle)
    for folder in claim.made:
        with suppress(OSError):  # there is something in it
            folder.rmdir()


@atexit.register
def _release_all() -> None:
    for path in list(_claims):
        _release(path)
