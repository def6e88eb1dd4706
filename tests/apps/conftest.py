# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path

import pytest

from ..tiny_pretraining import make_volume_pretraining


@pytest.fixture(scope="session")
def volume_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample of volumes, small, in data/, and a network of volumes with random weights in models/."""
    pytest.importorskip("itk")
    return make_volume_pretraining(tmp_path_factory.mktemp("volumes"))
