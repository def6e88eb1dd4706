# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F


@pytest.fixture(scope="session")
def slow() -> ModuleType:
    """slow_losses.py; pytest's import mode "importlib" has no sibling imports."""
    path = Path(__file__).with_name("slow_losses.py")
    spec = importlib.util.spec_from_file_location("mgca_slow_losses", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def unit() -> Callable[..., torch.Tensor]:
    """Random unit vectors in float64 that want a gradient; the same ones in every test."""
    generator = torch.Generator().manual_seed(7)

    def make(*shape: int) -> torch.Tensor:
        return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1).requires_grad_()

    return make


@pytest.fixture
def agree() -> Callable[..., None]:
    """Holds a loss and its gradients against the slow ones."""

    def check(fast: torch.Tensor, expected: torch.Tensor, inputs: list[torch.Tensor], rtol: float = 1e-10) -> None:
        torch.testing.assert_close(fast, expected, rtol=rtol, atol=rtol)
        found, wanted = torch.autograd.grad(fast, inputs), torch.autograd.grad(expected, inputs)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=rtol, atol=rtol * max(1e-3, float(other.abs().max())))

    return check
