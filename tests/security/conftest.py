# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


from __future__ import annotations

from pathlib import Path

import pytest
import torch

from monai_mgca.apps import load_pretrained
from monai_mgca.data import make_sample
from monai_mgca.utils import write_settings

SETTINGS = {
    "use_sample": True,
    "image_encoder": "resnet_tiny",
    "image_size": 56,
    "resize_size": 64,
    "in_channels": 1,
    "report_layers": None,
    "pool_report": "mean",
    "max_length": 60,
    "embed_dim": 16,
    "hidden_dim": 32,
    "num_prototypes": 8,
    "matcher": "similarity",
    "matcher_heads": 1,
}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, small, in data/, and a network with random weights in models/."""
    folder = tmp_path_factory.mktemp("security")
    make_sample(folder / "data", size=24, image_size=64, progress=False)
    encoder = {"report_encoder": str(folder / "data" / "report_encoder")}
    write_settings(folder / "models" / "model.json", SETTINGS | encoder)
    torch.manual_seed(3)
    network = load_pretrained(folder / "models" / "model_pretrain.pt", random=True).network
    torch.save(network.state_dict(), folder / "models" / "model_pretrain.pt")
    return folder
