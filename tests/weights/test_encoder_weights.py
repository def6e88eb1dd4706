# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


from __future__ import annotations

import os

import pytest
import torch
import torchvision
from monai.apps.detection.networks.retinanet_network import RetinaNet, resnet_fpn_feature_extractor
from monai.networks.nets import UNETR, FlexibleUNet
from monai.networks.nets.resnet import ResNet
from safetensors.torch import save_file

from monai_mgca.apps.weights_command import main
from monai_mgca.networks import MGCA, ImageEmbedder, ProjectionHead, ReportEncoder, ResNetImageEncoder, ViTImageEncoder
from monai_mgca.utils import CheckpointError
from monai_mgca.weights import load_encoder, load_timm_vit, load_torchvision_resnet

VIT = {"image_size": 32, "patch_size": 8, "hidden_size": 24, "mlp_dim": 48, "num_layers": 2, "num_heads": 3}
RESNET = {"block": "basic", "layers": (1, 1, 1, 1), "width": 8}
BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def vit(**kwargs):
    return ViTImageEncoder(**{**VIT, **kwargs}).eval()


def resnet(**kwargs):
    return ResNetImageEncoder(**{**RESNET, **kwargs}).eval()


def embedder(encoder):
    return ImageEmbedder(encoder, ProjectionHead(encoder.out_channels, 16, 8)).eval()


def shaken(network):
    """Random values also where initialization is a constant, so that a tensor left behind shows."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if not value.is_floating_point():
                value.fill_(7)
            elif value.ndim == 1 and name.endswith(("weight", "var")):
                value.copy_(torch.rand_like(value) * 0.5 + (0.75 if "var" in name else 0.25))
            elif value.ndim in (1, 3):
                value.copy_(torch.randn_like(value) * 0.1)
    return network


def same(first, second):
    return all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


@pytest.mark.parametrize("make", [vit, resnet])
def test_model_file_fills_every_target_of_ours(make, tmp_path):
    source = shaken(make())
    torch.save(embedder(source).state_dict(), tmp_path / "model.pt")
    network = MGCA(make(), ReportEncoder({"vocab_size": 20, **BERT}), embed_dim=8, hidden_dim=16, num_prototypes=4)
    for target in (make(), embedder(make()), network):
        encoder = getattr(target, "image_encoder", target)
        assert not same(source, encoder)
        assert load_encoder(target, tmp_path / "model.pt") == len(source.backbone.state_dict())
        assert same(source, encoder)
    # the other way around: out of the file of both towers
    target = make()
    torch.save({"model": network.state_dict(), "optimizer": {"lr": 0.1}}, tmp_path / "model_pretrain.pt")
    load_encoder(target, str(tmp_path / "model_pretrain.pt"))
    assert same(source, target)


def test_safetensors_prefix_and_bare_state_dicts(tmp_path):
    source = shaken(resnet())
    renamed = {f"teacher.net.{key}": value for key, value in source.backbone.state_dict().items()}
    save_file(renamed, tmp_path / "teacher.safetensors")
    for checkpoint, prefix in (
        (tmp_path / "teacher.safetensors", "teacher.net"),
        (tmp_path / "teacher.safetensors", "teacher.net."),
        ({f"student.{key}": value for key, value in source.state_dict().items()}, "student"),
        (source.state_dict(), None),
        (source.backbone.state_dict(), None),
        (source.backbone.state_dict(), ""),
    ):
        target = resnet()
        load_encoder(target, checkpoint, prefix)
        assert same(source, target)
    # one encoder is found by itself; of several one has to be named
    target = resnet()
    load_encoder(target, tmp_path / "teacher.safetensors")
    assert same(source, target)
    two = renamed | {f"student.net.{key}": value for key, value in source.backbone.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"There are several: give one as prefix, student.net., teacher.net."):
        load_encoder(resnet(), two)
    load_encoder(resnet(), two, "student.net")
    with pytest.raises(CheckpointError, match=r"begin with decoder.weight. Give the prefix"):
        load_encoder(resnet(), {"decoder.weight": torch.zeros(1)})


def test_flexible_unet_takes_a_resnet50():
    source = shaken(ResNetImageEncoder()).eval()
    unet = FlexibleUNet(in_channels=1, out_channels=1, backbone="resnet50", pretrained=False, spatial_dims=2).eval()
    assert load_encoder(unet, source.state_dict()) == 318
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        tokens = unet.encoder(image)[3].flatten(2).transpose(1, 2)
        torch.testing.assert_close(tokens, source(image).tokens, rtol=0, atol=1e-5)


def test_unetr_leaves_the_class_token_alone():
    source = shaken(vit(image_size=64, patch_size=16, hidden_size=24, num_layers=12))
    sizes = {"hidden_size": 24, "mlp_dim": 48, "num_heads": 3, "spatial_dims": 2, "qkv_bias": True}
    unetr = UNETR(in_channels=1, out_channels=1, img_size=(64, 64), feature_size=4, **sizes)
    backbone = source.backbone.state_dict()
    assert load_encoder(unetr, source.state_dict()) == len(backbone) - 1
    vit_state = unetr.vit.state_dict()
    assert all(torch.equal(value, vit_state[key]) for key, value in backbone.items() if key != "cls_token")


@pytest.mark.parametrize("whole", [True, False])
def test_pyramid_leaves_stages_it_does_not_have(whole):
    source = shaken(resnet())
    body = ResNet("basic", [1, 1, 1, 1], [8, 16, 32, 64], 2, 1, conv1_t_stride=2, bias_downsample=False)
    extractor = resnet_fpn_feature_extractor(body, 2, False, (1, 2))
    target = RetinaNet(2, 2, 1, extractor, (8, 8)) if whole else extractor
    moved = load_encoder(target, embedder(source).state_dict())
    kept = {
        key: value for key, value in source.backbone.state_dict().items() if not key.startswith(("layer3", "layer4"))
    }
    assert moved == len(kept)
    assert all(torch.equal(value, extractor.body.state_dict()[key]) for key, value in kept.items())


@pytest.mark.parametrize("make", [vit, resnet])
def test_folded_kernels_equal_three_equal_channels(make):
    source, target = shaken(make(in_channels=3)), make()
    load_encoder(target, source.state_dict())
    gray = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        wanted, given = source(gray.expand(-1, 3, -1, -1)), target(gray)
    torch.testing.assert_close(given.pooled, wanted.pooled, rtol=0, atol=1e-5)
    torch.testing.assert_close(given.tokens, wanted.tokens, rtol=0, atol=1e-5)
    with pytest.raises(CheckpointError, match=r"reads 1 channel, the target 3.*build the target with 1 input channel"):
        load_encoder(make(in_channels=3), target.state_dict())


def test_what_does_not_fit_is_named_and_nothing_moves():
    state = vit().state_dict()
    target = shaken(vit())
    before = {key: value.clone() for key, value in target.state_dict().items()}
    extra = {**state, "backbone.blocks.0.foreign": torch.zeros(1)}
    fewer = {key: value for key, value in state.items() if not key.endswith("blocks.1.norm1.bias")}
    with pytest.raises(CheckpointError, match=r"no place in the target: blocks.0.foreign"):
        load_encoder(target, extra)
    with pytest.raises(CheckpointError, match=r"missing in the checkpoint: blocks.1.norm1.bias"):
        load_encoder(target, fewer)
    with pytest.raises(CheckpointError, match=r"out_proj\.bias \(\(48,\) in the checkpoint, \(24,\)"):
        load_encoder(target, vit(hidden_size=48).state_dict())
    with pytest.raises(CheckpointError, match=r"no place in the target: blocks.2"):
        load_encoder(target, vit(num_layers=3).state_dict())
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


def test_stages_are_left_out_of_the_end_only():
    state = {key: value for key, value in resnet(layers=(1, 1, 1, 2)).state_dict().items()}
    with pytest.raises(CheckpointError, match=r"no place in the target: layer4.1"):
        load_encoder(resnet(), state)


def test_other_architectures_are_refused():
    with pytest.raises(CheckpointError, match="seems to hold a resnet, but ViTImageEncoder has a vit"):
        load_encoder(vit(), resnet().state_dict())
    with pytest.raises(CheckpointError, match="seems to hold a vit, but ResNetImageEncoder has a resnet"):
        load_encoder(resnet(), vit().state_dict())
    with pytest.raises(CheckpointError, match="holds resnet, not a vision transformer of timm"):
        load_timm_vit(vit(), resnet().backbone.state_dict())
    with pytest.raises(CheckpointError, match="Linear has no vision transformer or ResNet"):
        load_encoder(torch.nn.Linear(1, 1), vit().state_dict())
    with pytest.raises(CheckpointError, match="convert on it first"):
        load_encoder(vit(), {"img_encoder_q.model.cls_token": torch.zeros(1)})


class Pickled:
    def __reduce__(self):
        return os.mkdir, ("this-must-never-run",)


def test_ill_files_are_refused_with_their_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"no checkpoint file '.*absent.pt'"):
        load_encoder(vit(), tmp_path / "absent.pt")
    for name, content, message in (
        ("empty.pt", b"", "is empty"),
        ("empty.safetensors", b"", "is empty"),
        ("garbage.pt", b"garbage" * 50, "cannot be read as a checkpoint"),
        ("garbage.safetensors", b"garbage" * 50, "cannot be read as a checkpoint"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{name}' {message}"):
            load_encoder(vit(), tmp_path / name)
    torch.save(vit().state_dict(), tmp_path / "whole.pt")
    (tmp_path / "half.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:4000])
    with pytest.raises(CheckpointError, match=r"half.pt' cannot be read"):
        load_encoder(vit(), tmp_path / "half.pt")
    torch.save({"model": vit().state_dict(), "other": Pickled()}, tmp_path / "pickled.pt")
    with pytest.raises(CheckpointError, match=r"pickled.pt' holds pickled objects .*mkdir.*torch.save\(content"):
        load_encoder(vit(), tmp_path / "pickled.pt")
    assert not (tmp_path / "this-must-never-run").exists()
    torch.save({"model": {"a": 1}}, tmp_path / "numbers.pt")
    with pytest.raises(CheckpointError, match=r"numbers.pt' has entries that are no tensors"):
        load_encoder(vit(), tmp_path / "numbers.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match=r"list.pt' holds a list"):
        load_encoder(vit(), tmp_path / "list.pt")


def test_timm_vit_gives_the_same_features(tmp_path):
    timm = pytest.importorskip("timm")
    model = shaken(timm.create_model("deit_base_patch16_224", pretrained=False)).eval()
    torch.save({"model": model.state_dict()}, tmp_path / "deit.pth")
    gray = torch.randn(1, 1, 224, 224)
    for channels in (3, 1):
        encoder = ViTImageEncoder(in_channels=channels).eval()
        # all but pos_embed and the head; the position of [CLS] is in its token
        assert load_timm_vit(encoder, tmp_path / "deit.pth") == len(model.state_dict()) - 2
        image = torch.randn(1, 3, 224, 224) if channels == 3 else gray
        with torch.no_grad():
            wanted, given = model.forward_features(image.expand(-1, 3, -1, -1)), encoder(image)
        torch.testing.assert_close(given.pooled, wanted[:, 0], rtol=0, atol=1e-5)
        torch.testing.assert_close(given.tokens, wanted[:, 1:], rtol=0, atol=1e-5)


def test_torchvision_resnet_gives_the_same_features(tmp_path):
    model = shaken(torchvision.models.resnet50(weights=None)).eval()
    torch.save(model.state_dict(), tmp_path / "resnet50.pth")
    gray = torch.randn(1, 1, 96, 96)
    for channels in (3, 1):
        encoder = ResNetImageEncoder(in_channels=channels).eval()
        assert load_torchvision_resnet(encoder, tmp_path / "resnet50.pth") == len(model.state_dict()) - 2
        image = torch.randn(1, 3, 96, 96) if channels == 3 else gray
        with torch.no_grad():
            x = model.maxpool(model.relu(model.bn1(model.conv1(image.expand(-1, 3, -1, -1)))))
            tokens = model.layer3(model.layer2(model.layer1(x)))
            pooled = model.layer4(tokens).mean((2, 3))
            given = encoder(image)
        torch.testing.assert_close(given.pooled, pooled, rtol=0, atol=1e-5)
        torch.testing.assert_close(given.tokens, tokens.flatten(2).transpose(1, 2), rtol=0, atol=1e-5)


def test_command_line_reports_errors_without_a_traceback(tmp_path, capsys):
    assert main(["convert", str(tmp_path / "no.ckpt"), str(tmp_path / "out.pt")]) == 1
    assert "There is no checkpoint file" in capsys.readouterr().err
