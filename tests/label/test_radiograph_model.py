# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch

from monai_mgca.label.radiograph_model import load_radiograph_model
from monai_mgca.utils import CheckpointError, write_settings


def test_weights_of_volumes_are_refused(tmp_path):
    write_settings(tmp_path / "model.json", {"spatial_dims": 3})
    torch.save({}, tmp_path / "model_pretrain.pt")
    with pytest.raises(CheckpointError, match=r"model_pretrain\.pt was trained on volumes"):
        load_radiograph_model(tmp_path / "model_pretrain.pt", "cpu")
