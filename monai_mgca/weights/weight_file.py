# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Reads and writes files of weights, as safetensors or by torch, never running what is in them."""

from __future__ import annotations

import argparse
import io
import os
import pickletools
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load_file, save_file

from monai_mgca.utils.errors import CheckpointError
from monai_mgca.utils.files import replacing
from monai_mgca.weights.nesting import state_dict_in
from monai_mgca.weights.unreadable import is_safetensors, why_unreadable

__all__ = ["check_output", "name_of", "read_checkpoint", "tensors_of", "write_tensors"]

# A file of torch.save's older format begins with so many pickles, of which the last has no classes.
PICKLES = 4
LONGEST_NAME, LONGEST_PICKLE = 1000, 2**26
# Containers without code of their own, which trainers put beside the weights.
PLAIN_TYPES: list[Any] = [argparse.Namespace, defaultdict, dict, list, int, float]
SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")


def read_checkpoint(path: str | os.PathLike) -> Mapping[str, Any]:
    """Read a checkpoint without running anything that is pickled in it.

    Args:
        path: a ``.safetensors`` file, or one that ``torch.save`` wrote.

    Raises:
        CheckpointError: when there is no such file, it is not a checkpoint, or it holds pickled objects.
    """
    path = Path(path)
    if path.is_dir():
        held = sorted(p.name for p in path.iterdir() if p.suffix in SUFFIXES)
        raise CheckpointError(f"'{path}' is a folder: give a file in it{', such as ' + held[0] if held else ''}.")
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint file '{path}': check the path, or train or convert one first.")
    try:
        if is_safetensors(path):
            content = load_file(path, device="cpu")
        else:
            _refuse_long_names(path)
            # open, because of a path torch looks at the ending too
            with torch.serialization.safe_globals(PLAIN_TYPES), path.open("rb") as file:
                content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no checkpoint fail in any way
        raise CheckpointError(why_unreadable(path, PLAIN_TYPES)) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"'{path}' holds a {type(content).__name__} instead of a dictionary of tensors: save a state dict."
        )
    return content


def _refuse_long_names(path: Path) -> None:
    """Refuse names of classes that no class has: torch would search its own message of a long one for hours.

    Raises:
        ValueError: when a name has more than ``LONGEST_NAME`` letters.
    """
    with path.open("rb") as file:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                names = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
                _check_names(io.BytesIO(archive.open(name).read(LONGEST_PICKLE)) for name in names)
        else:
            file.seek(0)
            beginning = io.BytesIO(file.read(LONGEST_PICKLE))
            _check_names(beginning for _ in range(PICKLES))


def _check_names(pickles: Iterable[IO[bytes]]) -> None:
    for stream in pickles:
        for code, argument, _ in pickletools.genops(stream):
            if code.name in ("GLOBAL", "INST") and len(str(argument)) > LONGEST_NAME:
                raise ValueError(f"it names a class of {len(str(argument))} letters")


def tensors_of(checkpoint: str | os.PathLike | Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The state dict in a checkpoint, which is all of it or an entry: see :func:`monai_mgca.weights.nesting`.

    Args:
        checkpoint: path or loaded content.

    Raises:
        CheckpointError: see :func:`read_checkpoint`; also when there are other things where tensors should be.
    """
    content = checkpoint if isinstance(checkpoint, Mapping) else read_checkpoint(checkpoint)
    return state_dict_in(content, name_of(checkpoint))


def name_of(checkpoint: str | os.PathLike | Mapping[str, Any]) -> str:
    """What messages call a checkpoint."""
    return "The state dict" if isinstance(checkpoint, Mapping) else f"'{os.fspath(checkpoint)}'"


def check_output(path: str | os.PathLike) -> Path:
    """The path of a checkpoint to be written.

    Raises:
        CheckpointError: when it ends neither with ".pt" nor with ".safetensors".
    """
    path = Path(path)
    if path.suffix not in (".pt", ".safetensors"):
        raise CheckpointError(f"The output '{path}' must end with .pt or .safetensors.")
    return path


def write_tensors(state: Mapping[str, torch.Tensor], path: str | os.PathLike) -> None:
    """Write a state dict as ``.pt`` or ``.safetensors``; the file is there complete or not at all."""
    path = check_output(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # a slice would drag its whole storage into the file, and safetensors takes no shared one
    state = {key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in state.items()}
    with replacing(path) as temporary:
        if path.suffix == ".safetensors":
            save_file(state, temporary)
        else:
            torch.save(state, temporary)
