# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Whether the folders of a training can be written and have room, asked before it begins."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from monai_mgca.utils.console import Lines, visible
from monai_mgca.utils.errors import StorageError, storage_error

__all__ = ["check_folders", "training_bytes"]


def training_bytes(network: nn.Module) -> int:
    """How much room the checkpoints and the best networks of a training take at most, in bytes.

    A checkpoint has the weights and AdamW's two averages of those that are not frozen; two are kept while a third is
    written. Of the best network there may be two files, for whole and encoder, and a third that is written.

    Args:
        network: what is trained, with what is frozen frozen already.

    Example::

        print(training_bytes(torch.nn.Linear(9, 10)))  # 12 times 100 numbers of 4 bytes
    """
    tensors = [*network.parameters(), *network.buffers()]
    return sum(tensor.numel() * tensor.element_size() * (12 if tensor.requires_grad else 6) for tensor in tensors)


def check_folders(folders: Mapping[str, str | os.PathLike | None], needed: int = 0) -> None:
    """Refuse folders that cannot be written, or are too full, before a training that would find out in the end.

    Nothing is made: a file without a name is written into each, or into the folder in which it would be made.

    Args:
        folders: by the name of the setting that changes them; those that are None are not used.
        needed: bytes that must be free in the first of them; what checkpoints it holds already are replaced, and
            count as free.

    Raises:
        StorageError: naming every folder that will not do, and why.

    Example::

        check_folders({"ckpt_dir": "models", "output_dir": "eval"}, needed=1_000_000)
    """
    used = {name: Path(folder) for name, folder in folders.items() if folder is not None}
    problems = [problem for name, folder in used.items() if (problem := _problem(name, folder))]
    if needed and not problems:
        name, folder = next(iter(used.items()))
        free = shutil.disk_usage(_existing(folder)).free + sum(
            path.stat().st_size for path in folder.rglob("checkpoint_*.pt")
        )
        if free < needed:
            problems.append(
                f"{name} ({folder}) has {free / 2**20:.0f} MiB of room, but the checkpoints and networks of this "
                f"training take up to {needed / 2**20:.0f} MiB: make room, or choose a folder on another disk."
            )
    if problems:
        raise StorageError(Lines("\n".join(map(visible, problems))))


def _problem(name: str, folder: Path) -> str | None:
    """Why a folder cannot be written, None if it can."""
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)) as file:
            file.write(bytes(4096))
    except OSError as error:
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            return f"{name} ({folder}) is, or lies below, a file: choose another folder."
        reason = storage_error(error, folder)
        return f"{name}: {reason if reason else f'cannot write {folder}: {error.strerror}.'}"
    return None


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next((place for place in (folder, *folder.absolute().parents) if place.exists()), folder)
