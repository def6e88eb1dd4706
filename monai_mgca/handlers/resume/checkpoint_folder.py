# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The checkpoint files of a training: written whole, the newest that is sound is read."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from monai_mgca.io.tensor_file import read_tensors
from monai_mgca.utils.dist import rank
from monai_mgca.utils.errors import CheckpointError
from monai_mgca.utils.files import remove_unfinished, replacing

__all__ = ["CheckpointFolder"]

_NAME = "checkpoint_iteration={}.pt"


class CheckpointFolder:
    """The checkpoints of a training: each whole or not there, the last two kept, the one before used if one is damaged.

    Args:
        path: the folder.

    Example::

        folder = CheckpointFolder("models")
        folder.write({"weights": torch.zeros(2)}, iteration=100)
        path, state = folder.read()
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.kept: list[Path] = []
        self.logger = logging.getLogger(__name__)

    def all(self) -> list[Path]:
        """The checkpoints that are there, oldest first."""
        pattern = re.compile(re.escape(_NAME).replace(r"\{\}", r"(\d+)"))
        found = [(pattern.fullmatch(path.name), path) for path in self.path.glob(_NAME.format("*"))]
        return [path for _, path in sorted((int(match[1]), path) for match, path in found if match and path.is_file())]

    def tidy(self) -> None:
        """Remove what killed trainings left half written."""
        remove_unfinished(self.path, _NAME.format("*"))

    def write(self, state: Mapping[str, Any], iteration: int) -> Path:
        """Write a checkpoint, and then remove all but this one and the one written or read before it.

        Args:
            state: tensors and plain containers.
            iteration: how many are done.

        Raises:
            StorageError: when it cannot be written; the one before it is still there.
        """
        path = self.path / _NAME.format(iteration)
        self.path.mkdir(parents=True, exist_ok=True)
        with replacing(path, sync=True) as temporary, temporary.open("wb") as file:
            torch.save(dict(state), file)
        self.kept = [*[other for other in self.kept if other != path][-1:], path]
        for other in self.all():
            if other not in self.kept:
                other.unlink()
        return path

    def read(self) -> tuple[Path, dict[str, Any]] | None:
        """Read the newest checkpoint that is whole.

        Returns:
            Its path and content, on the CPU; None where there is no checkpoint.

        Raises:
            CheckpointError: when there are some, but all are damaged; or one cannot be read, as without permission.
        """
        damaged: list[str] = []
        there = self.all()
        for path in reversed(there):
            try:
                state: dict[str, Any] = read_tensors(path)
            except OSError as error:
                message = f"The checkpoint {path} cannot be read ({error.strerror}): mend that, or remove the file"
                raise CheckpointError(f"{message} to go on from the one before it.") from error
            except ValueError as error:
                damaged.append(f"{path} ({error})")
                continue
            for other in damaged if rank() == 0 else ():
                self.logger.warning(f"The checkpoint {other} cannot be read: going on from the one before it, {path}.")
            # both, for this one may be written again, as after a validation
            self.kept = there[: there.index(path) + 1][-2:]
            return path, state
        if damaged:
            raise CheckpointError(
                f"No checkpoint can be read, of {', '.join(damaged)}: bring them from a backup, or delete them to "
                "start from the beginning."
            )
        return None
