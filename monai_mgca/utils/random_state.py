# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The state of all random generators, kept and restored."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["random_state", "restore_random_state", "seeded"]


def random_state() -> dict[str, Any]:
    """The state of the random numbers of this process, as tensors and plain containers that weights-only reading takes.

    Returns:
        "python", "numpy", "torch" and "cuda", which is a list with a state for each GPU, empty where none is in use.
    """
    legacy: Any = np.random.get_state(legacy=True)
    name, keys, *numpy_rest = legacy
    return {
        "python": random.getstate(),
        "numpy": [str(name), torch.from_numpy(keys.astype(np.int64)), *numpy_rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Go on with the random numbers where :func:`random_state` saw them.

    Args:
        state: what it returned. GPUs that are not there are passed over.

    Example::

        state = random_state()
        first = torch.rand(3)
        restore_random_state(state)
        assert torch.equal(torch.rand(3), first)
    """
    version, keys, rest = state["python"]
    random.setstate((version, tuple(keys), rest))
    name, words, *numpy_rest = state["numpy"]
    np.random.set_state((name, words.numpy().astype(np.uint32), *numpy_rest))
    torch.set_rng_state(state["torch"])
    for device, gpu_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(gpu_state, device)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of Python, NumPy and torch's CPU from a seed; afterwards they go on as if nothing had been drawn.

    Args:
        seed: from 0 to 2 ** 32 - 1.

    Example::

        with seeded(7):
            first = torch.rand(3)
        with seeded(7):
            assert torch.equal(torch.rand(3), first)
    """
    before = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    random.seed(seed)
    np.random.seed(seed)
    # torch.manual_seed would seed the GPUs, too
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.default_generator.set_state(before[2])
