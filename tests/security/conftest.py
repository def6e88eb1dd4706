# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


from __future__ import annotations

from pathlib import Path

import pytest

from ..tiny_pretraining import make_pretraining


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, small, in data/, and a network with random weights in models/."""
    return make_pretraining(tmp_path_factory.mktemp("security"))
