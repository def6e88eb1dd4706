# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Other libraries' image encoders go by one option through all that the bundle does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import monai.bundle
import pytest
import torch
import transformers
from monai.data import load_net_with_metadata

from monai_mgca.__main__ import main
from monai_mgca.data import make_volume_sample
from monai_mgca.weights import load_network, read_model_settings

pytest.importorskip("timm")

SWIN = "timm:swin_tiny_patch4_window7_224(embed_dim=12, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 2))"
CONVNEXT = "timm:convnext_atto(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))"
DENSENET = "monai:DenseNet121(init_features=8, growth_rate=4, block_config=(1, 1, 1, 1))"
ENCODERS = {"swin": SWIN, "convnext": CONVNEXT, "densenet": DENSENET, "dinov2": None}
TASKS = ("segmentation", "detection", "classification")
QUICK = {"num_workers": 0, "batch_size": 6}
# a detector's heads, whose width is no option
NARROW = {"network_def#channels": 16}


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory):
    """A DINOv2 with registers and patches of 14 pixels, of color images, as transformers saves it."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14, "image_size": 70}
    folder = tmp_path_factory.mktemp("weights") / "dinov2"
    transformers.AutoModel.from_config(transformers.Dinov2WithRegistersConfig(**sizes)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=ENCODERS)
def pretrained(request, new_bundle, dinov2, captured_logs):
    """A bundle with a pretraining of an epoch, and of another one resumed; the folder of its encoder is gone."""
    size = 112 if request.param == "dinov2" else 64
    bundle = new_bundle()
    options = {"image_encoder": ENCODERS[request.param] or f"hf:{dinov2}", "image_size": size, **QUICK}
    with captured_logs() as stream:
        bundle.run("train", **options)
        resumed = bundle.run("train", **options, epochs=2, resume=True)
    assert resumed.parser.get_parsed_content("train#trainer").state.epoch == 2
    if request.param == "dinov2":
        assert "The image encoder starts from pretrained: 4" in stream.getvalue()
        shutil.rmtree(dinov2)
    return bundle, size


def test_settings_rebuild_it(pretrained):
    bundle, _ = pretrained
    settings = read_model_settings(bundle.path("models", "model.pt"))
    assert "dinov2" not in settings["image_encoder"] or settings["image_encoder"].startswith(
        "hf:dinov2_with_registers("
    )


def test_embeds_images(pretrained):
    bundle, _ = pretrained
    bundle.run("inference", kind="infer", dataset_dir=str(bundle.data / "images"), num_workers=0)
    assert bundle.path("eval", "embeddings.csv").is_file()


@pytest.mark.parametrize("task", TASKS)
def test_finetuning_and_inference(pretrained, task, captured_logs):
    bundle, size = pretrained
    narrow = NARROW if task == "detection" else {}
    with captured_logs() as stream:
        bundle.run(f"train_{task}", image_size=size, **QUICK, **narrow)
    assert "tensors moved" in stream.getvalue()
    images = bundle.path("images")
    images.mkdir(exist_ok=True)
    shutil.copy(next((bundle.data / "images").glob("*.png")), images)
    bundle.run(f"inference_{task}", kind="infer", dataset_dir=str(images), num_workers=0, **narrow)


def test_zero_shot(pretrained):
    bundle, _ = pretrained
    bundle.run("evaluate_zero_shot", kind="infer", dataset_dir=str(bundle.data), bootstrap=20, num_workers=0)
    assert bundle.path("eval", "zero_shot", "probabilities.csv").is_file()


@pytest.mark.parametrize("method", ["attribution", "token"])
def test_grounding(pretrained, method, tmp_path):
    bundle, _ = pretrained
    options = ["--dataset-dir", str(bundle.data), "--output", str(tmp_path), "--reference", "4", "--method", method]
    checkpoint = bundle.path("models", "model_pretrain.pt")
    image = bundle.data / json.loads((bundle.data / "datalist.json").read_text())["validation"][0]["image"]
    assert main(["ground", *options, "--checkpoint", str(checkpoint), "--image", str(image), "--text", "opacity"]) == 0


@pytest.mark.parametrize("command", ["retrieve", "card", "probe"])
def test_commands(pretrained, command, tmp_path):
    bundle, _ = pretrained
    checkpoint = bundle.path("models", "model.pt" if command == "probe" else "model_pretrain.pt")
    options = {
        "retrieve": ["--text", "left effusion"],
        "card": ["--output", str(tmp_path / "card.html")],
        "probe": ["--fractions", "1", "--seeds", "1", "--output", str(tmp_path / "probe.csv")],
    }[command]
    if command == "retrieve":
        options += ["--output", str(tmp_path)]
    assert main([command, "--checkpoint", str(checkpoint), "--dataset-dir", str(bundle.data), *options]) == 0


def test_volumes(new_bundle, tmp_path):
    """MONAI's encoders in 3D, through the pretraining on volumes and its inference."""
    make_volume_sample(tmp_path, size=16, image_size=32, progress=False)
    bundle, encoder = new_bundle(), "monai:SegResNet(init_filters=8)"
    volumes = {"dataset_dir": str(tmp_path), "image_size": 32, "voxel_size": 12.0, "batch_size": 4, "num_workers": 0}
    bundle.run("train", "train_volume", image_encoder=encoder, **volumes)
    bundle.run("inference", "inference_volume", kind="infer", dataset_dir=str(tmp_path / "volumes"), num_workers=0)
    assert bundle.path("eval", "volume", "embeddings.csv").is_file()


def test_export(pretrained, tmp_path):
    bundle, size = pretrained
    path = tmp_path / "model.ts"
    monai.bundle.ckpt_export(
        net_id="network_def",
        filepath=str(path),
        ckpt_file=str(bundle.path("models", "model.pt")),
        meta_file=str(bundle.path("configs", "metadata.json")),
        config_file=str(bundle.path("configs", "inference.json")),
        bundle_root=str(bundle.root),
        use_trace=True,
        input_shape=[1, 1, size, size],
    )
    workflow = bundle.workflow("inference", kind="infer")
    workflow.parser.parse(reset=True)
    network = workflow.parser.get_parsed_content("network_def").eval()
    load_network(network, bundle.path("models", "model.pt"))
    image = torch.rand(1, 1, size, size) * 2 - 1
    with torch.no_grad():
        exported = load_net_with_metadata(str(path))[0].eval()(image)
        torch.testing.assert_close(exported, network(image), rtol=1e-4, atol=1e-5)


def test_own_encoder_of_a_config(new_bundle, tmp_path, monkeypatch):
    """A user's own goes through the pretraining by its name, and is rebuilt where its module is named."""
    (tmp_path / "towers_of_a_user.py").write_text(
        Path(__file__).parents[1].joinpath("networks", "own_encoder.txt").read_text()
    )
    monkeypatch.syspath_prepend(tmp_path)
    bundle = new_bundle()
    bundle.run(
        "train",
        image_encoder="patches",
        image_size=64,
        imports=["$import os", "$import monai_mgca", "$import towers_of_a_user"],
        **QUICK,
    )
    bundle.run("train_segmentation", **QUICK)
    bundle.run("inference", kind="infer", dataset_dir=str(bundle.data / "images"), num_workers=0)
