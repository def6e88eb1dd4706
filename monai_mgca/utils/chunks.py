# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Cuts large computations into parts that fit into memory."""

from __future__ import annotations

from typing import NamedTuple

import torch

__all__ = ["Part", "can_be_read", "elements_at_once", "parts", "slices"]

# Similarities held at once: half a MiB in float32, which stays in a CPU's cache; on a GPU few large steps are faster.
CPU_ELEMENTS, GPU_ELEMENTS = 2**17, 2**24
# Devices whose values are there as soon as they are asked for; a GPU would first finish all that it was given.
READ_AT_ONCE = ("cpu",)


def elements_at_once(device: torch.device) -> int:
    """How many similarities of tokens to hold at once on a device."""
    return CPU_ELEMENTS if device.type == "cpu" else GPU_ELEMENTS


def can_be_read(tensor: torch.Tensor) -> bool:
    """Whether reading a tensor's values waits for nothing, and is no part of a graph that is being compiled."""
    return tensor.device.type in READ_AT_ONCE and not torch.compiler.is_compiling()


def slices(count: int, step: int) -> list[slice]:
    """A range in steps.

    Args:
        count: its length.
        step: of each part but perhaps the last.

    Example::

        print(slices(5, 2))  # [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


class Part(NamedTuple):
    """Samples of a batch that are computed at once, the tokens that are taken of them, and which of these count."""

    samples: slice
    tokens: slice
    mask: torch.Tensor | None


def parts(mask: torch.Tensor | None, count: int, samples: int) -> list[Part]:
    """A batch some samples at a time, each part without the padding behind its longest sample.

    Where the mask cannot be read (:func:`can_be_read`) all tokens are taken.

    Args:
        mask: (B, N) bool, True on tokens that count; None where all do.
        count: B.
        samples: of each part but perhaps the last.

    Returns:
        The parts, whose ``mask`` is None where all of their tokens count.

    Example::

        mask = torch.tensor([[True, True, False, False], [True, False, False, False]])
        print(parts(mask, 2, 1))  # of the first two tokens, of the second one, neither with a mask
    """
    chosen = slices(count, samples)
    if mask is None:
        return [Part(part, slice(None), None) for part in chosen]
    if not can_be_read(mask):
        return [Part(part, slice(None), mask[part]) for part in chosen]
    place = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    ends, counts = (mask * place).amax(1).tolist(), mask.sum(1).tolist()
    found = []
    for part in chosen:
        end = max(1, *ends[part])  # of padding only there is one token
        found.append(Part(part, slice(end), None if min(counts[part]) == end else mask[part, :end]))
    return found
