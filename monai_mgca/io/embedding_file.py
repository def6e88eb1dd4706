# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Files of embeddings with the names of what was embedded."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from monai_mgca.utils.files import replacing

__all__ = ["fingerprint_of", "read_embeddings", "save_embeddings", "write_embeddings"]

logger = logging.getLogger(__name__)

FINGERPRINT = "fingerprint"


def fingerprint_of(files: Sequence[str | os.PathLike], content: Any) -> str:
    """The sha256 of what embeddings were made from: a change of it makes them stale.

    Args:
        files: read whole, such as a checkpoint and the settings beside it; a missing one counts as such.
        content: plain values, such as the images' paths and the reports.

    Example::

        print(fingerprint_of([], [["1.png", "Clear lungs."]])[:7])  # sha256:
    """
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for path in map(Path, files):
        digest.update(b"\0file")
        if path.is_file():
            with path.open("rb") as file:
                while part := file.read(1 << 20):
                    digest.update(part)
    return f"sha256:{digest.hexdigest()}"


def write_embeddings(path: str | os.PathLike, arrays: Mapping[str, np.ndarray], fingerprint: str) -> None:
    """Write embeddings as one npz file, uncompressed so that it can be mapped, whole or not at all.

    Args:
        path: of the file; its folder is made if need be.
        arrays: name to array, none of Python objects.
        fingerprint: of :func:`fingerprint_of`.

    Example::

        write_embeddings("embeddings.npz", {"image": np.ones((5, 16), np.float32)}, "sha256:0")
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("wb") as file:
        save_embeddings(file, arrays, fingerprint)


def save_embeddings(file: IO[bytes], arrays: Mapping[str, np.ndarray], fingerprint: str) -> None:
    """Write embeddings into an open file, as :func:`write_embeddings` does.

    Args:
        file: open for bytes.
        arrays: name to array, none of Python objects.
        fingerprint: of :func:`fingerprint_of`.
    """
    np.savez(file, **arrays, **{FINGERPRINT: np.array(fingerprint)})


def read_embeddings(path: str | os.PathLike, fingerprint: str) -> dict[str, np.ndarray] | None:
    """Map what :func:`write_embeddings` wrote: the arrays stay in the file, and what is looked at is read.

    Args:
        path: of the file.
        fingerprint: that the embeddings must have.

    Returns:
        Name to array, read-only; None when there is no file, or it is of another fingerprint or damaged. Why is
        logged.

    Example::

        write_embeddings("embeddings.npz", {"image": np.ones((5, 16), np.float32)}, "sha256:0")
        print(read_embeddings("embeddings.npz", "sha256:0")["image"].shape)  # (5, 16)
    """
    if not Path(path).is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            found = str(file[FINGERPRINT])
        if found != fingerprint:
            logger.info(f"{path} is of another checkpoint, datalist or state of the images: recomputed.")
            return None
        with zipfile.ZipFile(path) as archive:
            if broken := archive.testzip():  # reads all, a piece at a time
                raise ValueError(f"{broken} is not as it was written")
            members = [info for info in archive.infolist() if info.filename != f"{FINGERPRINT}.npy"]
            return {info.filename.removesuffix(".npy"): _map(path, info) for info in members}
    except Exception as error:  # bytes that are no such file fail in any way
        logger.warning(f"{path} is damaged ({type(error).__name__}: {error}): recomputed.")
        return None


def _map(path: str | os.PathLike, info: zipfile.ZipInfo) -> np.ndarray:
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{info.filename} is compressed")
    with open(path, "rb") as file:
        # the member's own header: 30 bytes, of which the last 4 are the lengths of the name and the extra field
        file.seek(info.header_offset + 26)
        name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
        file.seek(name + extra, os.SEEK_CUR)
        np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.hasobject:
            raise ValueError(f"{info.filename} holds pickled objects")
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")
