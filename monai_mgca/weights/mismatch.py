# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What of a state dict does not fit a network, as messages say it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from monai_mgca.utils.console import name_some
from monai_mgca.utils.errors import CheckpointError

__all__ = ["describe_problems", "other_shapes", "refuse_other_dimensions"]


def other_shapes(state: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> list[str]:
    """The tensors that both have, in another shape, each with the two.

    Args:
        state: of the checkpoint.
        wanted: of the network.
    """
    return [
        f"{key} ({tuple(state[key].shape)} in the checkpoint, {tuple(value.shape)} in the target)"
        for key, value in wanted.items()
        if key in state and state[key].shape != value.shape
    ]


def describe_problems(problems: Mapping[str, Iterable[str]]) -> str:
    """Tensors by what is wrong with them, the first dozen of each; empty where there are none.

    Args:
        problems: names of tensors by the reason.

    Example::

        print(describe_problems({"missing": ["a", "b"], "another shape": []}))  # missing: a, b
    """
    found = ((reason, sorted(names)) for reason, names in problems.items())
    return "; ".join(f"{reason}: {name_some(names, 12)}" for reason, names in found if names)


def refuse_other_dimensions(
    state: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], kernels: Iterable[str], target: str
) -> None:
    """Refuse an encoder of volumes for a network of images, and the other way round.

    Args:
        state: of the checkpoint.
        wanted: of the network.
        kernels: names of the kernels that read the image.
        target: what the network is called.

    Raises:
        CheckpointError: naming both, and the configs that are of volumes.
    """
    for key in kernels:
        if key in state and key in wanted and state[key].ndim != wanted[key].ndim:
            held, built = ("volumes" if kernel.ndim == 5 else "images" for kernel in (state[key], wanted[key]))
            raise CheckpointError(
                f"The checkpoint's encoder is of {held}, and the {target} here of {built}: give weights of {built}, or "
                "lay train_TASK_volume.json over train_TASK.json where volumes are meant, and nothing where they are "
                "not."
            )
