# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes into folders that others can write to: no link leads out of them, and no file is ever half written."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import IO

from monai_mgca.utils import DataError
from monai_mgca.utils.errors import storage_error

__all__ = ["HeldFolder", "plain_name"]

# Windows has none of these: there a link needs an administrator
_HELD = os.open in os.supports_dir_fd
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)

# a pipe in a file's place would be waited for
_OLD = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))

_UNFINISHED = re.compile(r"\.[0-9a-f]{16}\.tmp")


class HeldFolder:
    """A folder that is held open while files are put into it, so that none can take its place: a context manager.

    Args:
        root: a folder, which may itself be given by a link.
        parts: names of the folders that lead from there to this one; they are made where they are missing.

    Raises:
        DataError: when one of the parts is a link, no folder, or no plain name.

    Example::

        from pathlib import Path

        Path("studies").mkdir()
        Path("sent.nrrd").write_bytes(b"NRRD0004")
        with HeldFolder("studies", "labels", "final") as folder:
            folder.put("sent.nrrd", "a.nrrd")
            print(folder.names())  # ['a.nrrd']
    """

    def __init__(self, root: str | os.PathLike, *parts: str) -> None:
        self.root, self.parts = os.path.realpath(root), tuple(map(plain_name, parts))
        self.path = os.path.join(self.root, *parts)
        self._handle: int | None = None

    def __enter__(self) -> HeldFolder:
        if not _HELD:
            os.makedirs(self.path, exist_ok=True)
            return self
        handle = os.open(self.root, _FOLDER)
        for i, part in enumerate(self.parts):
            try:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=handle)
                inner = os.open(part, _FOLDER, dir_fd=handle)
            except OSError as error:
                path = os.path.join(self.root, *self.parts[: i + 1])
                failure = storage_error(error, path) or DataError(f"{path} is a link or no folder: put a folder there.")
                raise failure from error
            finally:
                os.close(handle)
            handle = inner
        self._handle = handle
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def names(self) -> list[str]:
        """What is in it."""
        return os.listdir(self.path if self._handle is None else self._handle)

    def is_link(self, name: str) -> bool:
        """Whether a name in it is a link, wherever that leads."""
        with suppress(FileNotFoundError):
            return stat.S_ISLNK(os.stat(self._at(name), dir_fd=self._handle, follow_symlinks=False).st_mode)
        return False

    def read(self, name: str) -> bytes:
        """The content of a file in it.

        Args:
            name: in this folder.

        Raises:
            DataError: when it is a link, a folder or a pipe.
            FileNotFoundError: when there is none.
        """
        path = os.path.join(self.path, plain_name(name))
        try:
            handle = os.open(self._at(name), _OLD, dir_fd=self._handle)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise DataError(f"{path} is a link, or cannot be read ({error.strerror}): remove it.") from None
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise DataError(f"{path} is a folder or a pipe, where a file belongs: remove it.")
            with open(handle, "rb", closefd=False) as file:
                return file.read()
        finally:
            os.close(handle)

    def put(self, source: str | os.PathLike, name: str) -> None:
        """Copy a file into it, as :meth:`write` does.

        Args:
            source: the file.
            name: in this folder.
        """
        with open(source, "rb") as content:
            self.write(name, lambda target: shutil.copyfileobj(content, target))

    def write(self, name: str, fill: Callable[[IO[bytes]], object]) -> None:
        """Write a file, whole or not at all, in place of what has its name; a link there is not followed.

        Args:
            name: in this folder.
            fill: writes the content into the open file.

        Raises:
            DataError: when the name is a path, or a folder has it.
            StorageError: when the disk is full or cannot be written; what was there before is there still.
        """
        temporary, name = f".{secrets.token_hex(8)}.tmp", plain_name(name)
        try:
            with open(os.open(self._at(temporary), _NEW, 0o666, dir_fd=self._handle), "wb") as target:
                fill(target)
                target.flush()
                os.fsync(target.fileno())
            os.replace(self._at(temporary), self._at(name), src_dir_fd=self._handle, dst_dir_fd=self._handle)
            if self._handle is not None:
                with suppress(OSError):  # not every file system can; the file itself is there
                    os.fsync(self._handle)
        except OSError as error:
            path = os.path.join(self.path, name)
            failure = _folder_there(path) or storage_error(error, path)
            if failure is None:
                raise
            raise failure from error
        finally:
            self.remove(temporary)

    def remove(self, name: str) -> None:
        """Remove a file, or a link itself, where there is one.

        Args:
            name: in this folder.

        Raises:
            DataError: when the name is a path, or a folder has it.
        """
        try:
            os.unlink(self._at(plain_name(name)), dir_fd=self._handle)
        except FileNotFoundError:
            pass
        except OSError as error:
            failure = _folder_there(os.path.join(self.path, name))
            if failure is None:
                raise
            raise failure from error

    def remove_unfinished(self, seconds: float = 3600) -> None:
        """Remove what processes that were killed while they wrote have left here.

        Args:
            seconds: for which a file is still taken for one that is being written.
        """
        for name in filter(_UNFINISHED.fullmatch, self.names()):
            with suppress(FileNotFoundError):
                written = os.stat(self._at(name), dir_fd=self._handle, follow_symlinks=False).st_mtime
                if time.time() - written > seconds:
                    self.remove(name)

    def _at(self, name: str) -> str:
        return name if self._handle is not None else os.path.join(self.path, name)


def _folder_there(path: str) -> DataError | None:
    """The error where a folder has a file's name; some systems do not report that themselves."""
    return DataError(f"{path} is a folder, where a file belongs: remove it.") if os.path.isdir(path) else None


def plain_name(name: str) -> str:
    """One folder's or file's name, as it is: a list that somebody else wrote may hold paths.

    Args:
        name: to check.

    Raises:
        DataError: when it is none.

    Example::

        print(plain_name("a.png"))  # a.png
    """
    if name in ("", ".", "..") or "\0" in name or os.path.basename(name) != name:
        raise DataError(f"'{name}' is no name of a file or folder.")
    return name
