# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Why a file of weights cannot be read."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import torch

__all__ = ["is_safetensors", "why_unreadable"]

# what files begin with that people take for weights
_BEGINNINGS = {
    b"version https://git-lfs": "is a pointer of Git LFS in place of the file: run `git lfs pull` in its repository",
    b"\x1f\x8b": "is packed by gzip: unpack it",
    b"BZh": "is packed by bzip2: unpack it",
    b"7z\xbc\xaf": "is packed by 7-Zip: unpack it",
    b"\x89HDF": "is an HDF5 file, of Keras or alike: give weights of PyTorch",
    b"\x08": "is an ONNX file, or another one of protocol buffers: give the weights that it was made of",
    b"{": "is a text in JSON, not weights: it may be the answer of a server, or the settings beside the weights",
}


def is_safetensors(path: Path) -> bool:
    """Whether a file is of the format safetensors, whatever its name: the size of a header in JSON, then that."""
    with path.open("rb") as file:
        beginning = file.read(9)
    return beginning[8:9] == b"{" and int.from_bytes(beginning[:8], "little") < path.stat().st_size


def why_unreadable(path: Path, plain_types: Iterable[type]) -> str:
    """What is wrong with a file that is no checkpoint, and how to mend it.

    Args:
        path: of a file that is there.
        plain_types: containers that a checkpoint may hold.
    """
    if path.stat().st_size == 0:
        return f"'{path}' is empty: an interrupted copy or download, so get it again."
    with path.open("rb") as file:
        beginning = file.read(512)
    if beginning.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return f"'{path}' is a web page, not weights: the download needs a login or another address. Get it again."
    for start, kind in _BEGINNINGS.items():
        if beginning.startswith(start):
            return f"'{path}' {kind}."
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] or name for name in archive.namelist()]
        if any(name.startswith("code/") for name in names):
            return (
                f"'{path}' is a TorchScript archive, which holds code: give the state dict that it was exported from."
            )
        if "data.pkl" not in names:
            return f"'{path}' is an archive that torch.save did not write: unpack it, and give the weights in it."
    if classes := _pickled_classes(path, plain_types):
        return (
            f"'{path}' holds pickled objects beside its tensors ({', '.join(sorted(classes))}), which could run code "
            "when loaded. Where it was made and is trusted, write its tensors alone: "
            "torch.save(content['state_dict'], new_path)."
        )
    return (
        f"'{path}' cannot be read as a checkpoint (.safetensors, or tensors written by torch.save): it is damaged, "
        "incomplete or another kind of file. Get it again, or save a state dict."
    )


def _pickled_classes(path: Path, plain_types: Iterable[type]) -> list[str]:
    try:
        with torch.serialization.safe_globals(list(plain_types)):
            found: list[str] = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            return found
    except Exception:  # not a file of torch.save in its present format
        return []
