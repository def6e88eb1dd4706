# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Finds the tensors in a file however they are nested, prefixed or wrapped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from monai_mgca.utils.console import name_some
from monai_mgca.utils.errors import CheckpointError

__all__ = ["refuse_non_finite", "state_dict_in", "without_prefix"]

# where trainers put the weights, the most usual first: "network" is that of our own checkpoints of a training
_LEVELS = ("model", "state_dict", "network", "model_state_dict", "module")
# what torch puts before and between the names of a network that it wraps: DistributedDataParallel, torch.compile
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+|(?<=\.)_orig_mod\.")


def state_dict_in(content: Mapping[str, Any], name: str) -> dict[str, torch.Tensor]:
    """The state dict in a checkpoint: all of it, or the entry that holds it, by the names of the network itself.

    Args:
        content: of a file.
        name: of the file, for messages.

    Raises:
        CheckpointError: when there are other things where tensors should be, or several entries with tensors.
    """
    while (level := _level_of(content)) is not None:
        content = content[level]
    others = [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if others or not content:
        held = [key for key, value in content.items() if _holds_tensors(value)]
        if len(held) > 1:
            raise CheckpointError(
                f"{name} holds tensors under several entries, {name_some(sorted(map(str, held)), 12)}: "
                f"write the one that is meant alone, torch.save(content[{held[0]!r}], new_path)."
            )
        found = f"has entries that are no tensors: {others[:8]}" if others else "is empty"
        raise CheckpointError(
            f"{name} {found}. Give a state dict, or a dictionary with one under 'model' or 'state_dict'."
        )
    keys = [str(key) for key in content]
    wrapped = all(_WRAPPERS.match(key) for key in keys)
    bare = {(_WRAPPERS.sub("", key) if wrapped else key.replace("._orig_mod.", ".")): content[key] for key in keys}
    return bare if len(bare) == len(keys) else dict(content)


def _level_of(content: Mapping[str, Any]) -> str | None:
    """The entry that holds the weights, None where there is none or it is not clear which."""
    for level in _LEVELS:
        if isinstance(content.get(level), Mapping):
            return level
    held = [key for key, value in content.items() if _holds_tensors(value)]
    loose = any(isinstance(value, torch.Tensor) for value in content.values())
    return held[0] if len(held) == 1 and not loose else None


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(v, torch.Tensor) for v in value.values())


def without_prefix(state: Mapping[str, torch.Tensor], wanted: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
    """A state dict whose every name has the same beginning before those that are wanted, by the wanted names.

    Args:
        state: which is given back as it is where it is not exactly so.
        wanted: by the names of a network.
    """
    first = next(iter(wanted), "")
    for prefix in {key.removesuffix(first) for key in state if key.endswith(f".{first}")}:
        if {f"{prefix}{key}" for key in wanted} == state.keys():
            return {key: state[f"{prefix}{key}"] for key in wanted}
    return state


def refuse_non_finite(state: Mapping[str, torch.Tensor], name: str) -> None:
    """Refuse weights that are not numbers, which would make all that a network gives NaN.

    Args:
        state: whose every tensor is about to be used.
        name: of its file, for messages.

    Raises:
        CheckpointError: naming the tensors.
    """
    ill = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if ill:
        raise CheckpointError(
            f"{name} has NaN or infinite values in {len(ill)} of {len(state)} tensors: {name_some(sorted(ill), 6)}. "
            "The training that wrote it had diverged, or its numbers were too large for half precision: take an "
            "earlier checkpoint."
        )
