# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""One call gives a pretrained model from a file, a folder, a bundle or a repository of the hub."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import monai_mgca
from monai_mgca.utils import CheckpointError

from ..tiny_pretraining import make_pretraining


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The sample and a network with random weights."""
    return make_pretraining(tmp_path_factory.mktemp("load"), size=40)


@pytest.mark.parametrize("place", ["", "models", "models/model_pretrain.pt"])
def test_places(made, place):
    model = monai_mgca.load(made / place)
    image = next((made / "data" / "images").glob("*.png"))
    similarity = model.embed_images([image]) @ model.embed_texts(["left effusion", "no effusion"]).T
    assert similarity.shape == (1, 2)
    assert torch.isfinite(similarity).all()


def test_the_page(made, tmp_path, monkeypatch, capsys):
    """README's block, in a folder as after the main job."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(import monai_mgca\n.*?)```", readme, re.DOTALL)[1]
    bundle = tmp_path / "bundles" / "mgca"
    (bundle / "data").mkdir(parents=True)
    (bundle / "models").symlink_to(made / "models")
    (bundle / "data" / "sample").symlink_to(made / "data")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("tensor([[")


def test_repository_of_the_hub(made, monkeypatch):
    """What the hub's client downloads is a folder; only what belongs to the model is asked for."""
    asked = {}

    def snapshot_download(name, allow_patterns):
        asked[name] = allow_patterns
        return str(made)

    monkeypatch.setattr("monai_mgca.apps.load_model.snapshot_download", snapshot_download)
    model = monai_mgca.load("somebody/radiographs")
    assert model.embed_texts(["left effusion"]).shape == (1, 16)
    assert "model_pretrain.pt" in asked["somebody/radiographs"]
    assert not any(pattern.endswith(".py") for pattern in asked["somebody/radiographs"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.pt", "There is no file or folder 'nowhere.pt'"),
        ("a/b/c", "There is no file or folder 'a/b/c'"),
        ("nobody/nothing", "without network, download it where there is one"),
    ],
)
def test_what_is_nowhere(source, message):
    with pytest.raises(CheckpointError, match=message):
        monai_mgca.load(source)


def test_folder_without_a_model(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no model_pretrain\.pt"):
        monai_mgca.load(tmp_path)
