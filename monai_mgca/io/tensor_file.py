# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Reads files of tensors that torch wrote, and finds damage in them."""

from __future__ import annotations

import errno
import os
import zipfile
from typing import Any

import torch

__all__ = ["read_tensors"]


def read_tensors(path: str | os.PathLike) -> Any:
    """Read what ``torch.save`` wrote, if it is as it was written: tensors and plain containers, on the CPU.

    ``torch.load`` alone takes foreign bytes in the middle of a tensor for its values, and reports a file that was
    cut as a disk that fails. The checksums of the archive, which the file is, reveal both.

    Args:
        path: of the file.

    Raises:
        OSError: when it cannot be read: it is not there, a folder or forbidden, or the disk fails.
        ValueError: when it is damaged, is no such file, or holds other objects.

    Example::

        torch.save({"weight": torch.zeros(2)}, "weights.pt")
        print(read_tensors("weights.pt"))
    """
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                if broken := archive.testzip():  # reads all, a piece at a time
                    raise ValueError(f"{broken} is not as it was written")
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception as error:  # bytes that are no such file fail in any way
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            raise ValueError(f"{type(error).__name__}: {error}".splitlines()[0]) from error
