# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes files whole or not at all, and reads JSON settings."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from monai_mgca.utils.errors import CheckpointError, storage_error

__all__ = ["parse_json", "read_settings", "remove_unfinished", "replacing", "write_settings"]


@contextmanager
def replacing(path: str | os.PathLike, sync: bool = False) -> Iterator[Path]:
    """A temporary name beside a file, which takes the file's place once all is written: whole or not at all.

    Args:
        path: the file to write; what fails on the way leaves it as it was, and nothing beside it. Let torch write into
            an open file: only then does it report why it failed.
        sync: wait until the disk has it, so that it is whole even after a power failure.

    Raises:
        StorageError: when the disk is full, the folder not writable, or alike.

    Example::

        with replacing("notes.txt") as temporary:
            temporary.write_text("whole")
    """
    path = Path(path)
    # threads share their process's number, and so may processes in two containers
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        if sync:
            _sync(temporary)
        os.replace(temporary, path)
        if sync:
            with suppress(OSError):  # not every file system can; the file itself is there
                _sync(path.parent)
    except (OSError, RuntimeError) as error:
        about_others = isinstance(error, OSError) and error.filename not in (None, str(temporary))
        failure = None if about_others else storage_error(error, path)
        if failure is None:
            raise
        raise failure from error
    finally:
        with suppress(OSError):  # where the folder cannot be read, there is nothing of ours
            temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path, name: str = "*") -> None:
    """Remove the temporary files that :func:`replacing` had no time to, in processes that were killed.

    Args:
        folder: of the files.
        name: with which they begin, or a pattern of it.

    Example::

        remove_unfinished(Path("models"), "model")
    """
    for path in folder.glob(f"{name}.*.tmp"):
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Have the content of a file, or the names in a folder, written to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def parse_json(text: str) -> Any:
    """What a JSON text holds.

    Args:
        text: from anywhere.

    Raises:
        ValueError: when it is no JSON, or nested deeper than Python's stack; the message says where, not what.

    Example::

        print(parse_json('{"size": [2, 3]}'))
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def write_settings(path: str | os.PathLike, settings: Mapping[str, Any]) -> None:
    """Write settings beside a network's weights, so that they can be used without knowing how they were made.

    Args:
        path: of the JSON file; it appears whole or not at all.
        settings: plain values.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def read_settings(path: str | os.PathLike, required: bool = False) -> dict[str, Any]:
    """Read what :func:`write_settings` wrote.

    Args:
        path: of the JSON file.
        required: refuse a missing file, which else gives no settings.

    Raises:
        CheckpointError: when a required file is missing, or the file is not JSON.
    """
    path = Path(path)
    if not path.is_file():
        if required:
            raise CheckpointError(f"There is no {path}, which a training writes beside its weights: train first.")
        return {}
    try:
        settings: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON ({error}): take the one of the training again.") from None
    return settings
