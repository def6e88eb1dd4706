# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Full precision where half would lose the result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["full_precision"]


@contextmanager
def full_precision(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Leave autocast and give the tensors in float32, or in float64 where one of them is.

    Exponentials of cosines over small temperatures lose their meaning in half precision.

    Args:
        tensors: floating-point tensors on one device.
    """
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    with torch.autocast(tensors[0].device.type, enabled=False):
        yield tuple(tensor.to(dtype) for tensor in tensors)
