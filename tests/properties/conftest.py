# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def slow() -> ModuleType:
    """The losses as the paper's formulas, of tests/losses; pytest's import mode "importlib" has no sibling imports."""
    path = Path(__file__).parents[1] / "losses" / "slow_losses.py"
    spec = importlib.util.spec_from_file_location("mgca_slow_losses_of_properties", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
