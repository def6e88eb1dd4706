# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch

pytest.importorskip("monailabel", reason="MONAI Label is not installed: on Python 3.13 it needs a line of its own")

from monai_mgca.label.label_settings import LabelSettings
from monai_mgca.label.served_model import load_served_model
from monai_mgca.utils import CheckpointError, DataError, write_settings


@pytest.fixture
def bundle(tmp_path):
    write_settings(tmp_path / "mgca" / "configs" / "metadata.json", {})
    return tmp_path / "mgca"


def write(folder, name, **settings):
    write_settings(folder / f"{name.removesuffix('_pretrain')}.json", {"classes": ["lung"], **settings})
    torch.save({}, folder / f"{name}.pt")


@pytest.mark.parametrize(("dims", "named"), [(3, "volumes"), (2, "radiographs")])
def test_weights_of_the_other_kind_are_refused(bundle, tmp_path, dims, named):
    """They came after the server had started."""
    settings = LabelSettings(tmp_path / "app", bundle, spatial_dims=5 - dims)
    write(bundle / "models", "model_pretrain", spatial_dims=dims)
    with pytest.raises(CheckpointError, match=rf"model_pretrain\.pt was trained on {named}, and the studies here are"):
        load_served_model(settings)


def test_the_weights_decide_what_studies_are(bundle, tmp_path):
    load = lambda **given: LabelSettings.load(tmp_path / "app", {"bundle": str(bundle), **given})  # noqa: E731
    assert load().spatial_dims == 2
    write(bundle / "models" / "volume", "model_pretrain", spatial_dims=3)
    assert load().spatial_dims == 3  # there is no other pretraining
    assert load().pretrained == bundle / "models" / "volume" / "model_pretrain.pt"
    write(bundle / "models", "model_pretrain")
    assert (load().spatial_dims, load().ckpt_dir) == (2, None)
    volumes = load(ckpt_dir=str(bundle / "models" / "volume"))
    assert volumes.spatial_dims == 3
    volumes.save()
    assert LabelSettings.load(tmp_path / "app") == volumes
    write(bundle / "models" / "volume", "model_detection", spatial_dims=3)
    assert load(ckpt_dir=str(bundle / "models" / "volume")).weights("detection") is not None
    with pytest.raises(DataError, match="there is no folder nowhere"):
        load(ckpt_dir="nowhere")


def test_radiographs_and_volumes_are_not_mixed(bundle, tmp_path):
    write(bundle / "models", "model_pretrain")
    write(tmp_path / "app" / "models", "model_segmentation", spatial_dims=3)  # that the server trained, once
    with pytest.raises(DataError, match=r"is of radiographs and .*model_segmentation\.pt is of volumes: a server has"):
        LabelSettings.load(tmp_path / "app", {"bundle": str(bundle)})
    settings = LabelSettings.load(tmp_path / "app", {"bundle": str(bundle), "models": "grounding,detection"})
    assert settings.spatial_dims == 2
