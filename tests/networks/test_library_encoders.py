# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Image encoders of MONAI and users' own, names of encoders, and what is refused of any library."""

from __future__ import annotations

import json

import monai.networks.nets as nets
import pytest
import torch
from safetensors.torch import save_file

from monai_mgca.networks import (
    ImageEncoder,
    ImageFeatures,
    create_image_encoder,
    parse_encoder_name,
    register_image_encoder,
    synchronize_batch_norm,
)
from monai_mgca.utils import CheckpointError
from monai_mgca.weights import load_image_weights

from .equal_features import equal

pytest.importorskip("timm")

SMALL = {"init_features": 8, "growth_rate": 4, "block_config": (1, 1, 1, 1)}
MONAI = {
    "DenseNet121(init_features=8, growth_rate=4, block_config=(1, 1, 1, 1))": (64, 2),
    "DenseNet121(init_features=8, growth_rate=4, block_config=(1, 1, 1, 1), spatial_dims=3)": (32, 3),
    "EfficientNetBN(model_name='efficientnet-b0')": (64, 2),
    "SwinUNETR(feature_size=12)": (64, 2),
    "SwinUNETR(feature_size=12, depths=(1, 1, 1, 1), spatial_dims=3)": (32, 3),
    "SegResNet(init_filters=8)": (64, 2),
    "SegResNet(init_filters=8, spatial_dims=3)": (32, 3),
}


def pooled_by_monai(name, dims, encoder, image):
    """What MONAI's own classes compute with the encoder's weights."""
    arguments = {"spatial_dims": dims, "in_channels": 1}
    if name.startswith("DenseNet"):
        net = nets.DenseNet121(**arguments, out_channels=1, **SMALL)
        net.load_state_dict(encoder.backbone.state_dict(), strict=False)
        net.class_layers.out = torch.nn.Identity()
        return net.eval()(image)
    if name.startswith("EfficientNet"):
        net = nets.EfficientNetBN("efficientnet-b0", pretrained=False, num_classes=1, **arguments)
        net.load_state_dict(encoder.backbone.state_dict(), strict=False)
        net._fc = torch.nn.Identity()
        return net.eval()(image)
    if name.startswith("Swin"):
        depths = (1, 1, 1, 1) if dims == 3 else (2, 2, 2, 2)
        net = nets.SwinUNETR(**arguments, out_channels=1, feature_size=12, depths=depths)
        net.swinViT.load_state_dict(encoder.backbone.state_dict())
        return net.eval().swinViT(image, net.normalize)[-1].flatten(2).mean(2)
    net = nets.SegResNet(**arguments, out_channels=1, init_filters=8)
    net.load_state_dict(encoder.backbone.state_dict(), strict=False)
    return net.eval().encode(image)[0].flatten(2).mean(2)


@pytest.mark.parametrize("name", MONAI)
def test_monai(name):
    size, dims = MONAI[name]
    torch.manual_seed(0)
    encoder = create_image_encoder(f"monai:{name}", image_size=size).eval()
    image = torch.rand(2, 1, *[size] * dims)
    pooled, tokens, attention = encoder(image)
    assert attention is None
    equal(pooled, pooled_by_monai(name, dims, encoder, image))
    count = 1
    for side in encoder.token_grid(image.shape[2:]):
        count *= side
    assert tokens.shape == (2, count, encoder.token_channels)
    (pooled.sum() + tokens.sum()).backward()
    assert [name for name, p in encoder.named_parameters() if p.requires_grad and p.grad is None] == []


def test_norms_with_an_activation_are_not_synchronized():
    encoder = create_image_encoder("timm:efficientnet_b0", image_size=64)
    with pytest.raises(ValueError, match=r"BatchNormAct2d\) do more than that"):
        synchronize_batch_norm(encoder)


def test_what_the_tokens_do_not_need_is_frozen():
    """For a loss of tokens alone, so that DDP waits for nothing."""
    encoder = create_image_encoder("monai:" + next(iter(MONAI)), image_size=64)
    names = encoder.freeze_behind_tokens()
    assert names
    assert all("denseblock4" in name or "norm5" in name or "transition3" in name for name in names)
    encoder(torch.rand(2, 1, 64, 64)).tokens.sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_made_where_no_gradients_are(mode):
    """As a server makes it, whose every answer is given without them."""
    name = f"monai:DenseNet121({', '.join(f'{key}={value!r}' for key, value in SMALL.items())})"
    image = torch.rand(1, 1, 64, 64)
    torch.manual_seed(0)
    usual = create_image_encoder(name, image_size=64).eval()
    torch.manual_seed(0)
    with mode():
        made = create_image_encoder(name, image_size=64).eval()
        assert torch.equal(made(image).pooled, usual(image).pooled)
    assert (made.out_channels, made.strides) == (usual.out_channels, usual.strides)
    if mode is torch.no_grad:
        trained = {name for name, value in made.named_parameters() if value.requires_grad}
        assert trained == {name for name, value in usual.named_parameters() if value.requires_grad}


class Tiny(ImageEncoder):
    """A user's own, in ten lines."""

    def __init__(self, image_size, in_channels=1, checkpointing=False):
        super().__init__(out_channels=8, token_channels=8)
        self.patch_size = 16
        self.net = torch.nn.Conv2d(in_channels, 8, kernel_size=16, stride=16)

    def forward(self, image):
        tokens = self.net(image).flatten(2).mT
        return ImageFeatures(tokens.mean(1), tokens, None)


def test_own():
    register_image_encoder("tests_tiny", Tiny)
    register_image_encoder("tests_tiny", Tiny)
    assert create_image_encoder("tests_tiny", image_size=64)(torch.rand(2, 1, 64, 64)).tokens.shape == (2, 16, 8)
    with pytest.raises(ValueError, match="'resnet_compact' names one of the built-in"):
        register_image_encoder("resnet_compact", Tiny)


def test_own_of_a_module_that_the_environment_names(tmp_path, monkeypatch):
    (tmp_path / "my_encoders_of_a_test.py").write_text(
        "from monai_mgca.networks import create_image_encoder, register_image_encoder\n"
        "def tower(image_size, in_channels=1, checkpointing=False):\n"
        "    return create_image_encoder('resnet_tiny', in_channels=in_channels)\n"
        "register_image_encoder('of_a_module', tower)\n"
    )
    with pytest.raises(ValueError, match="MGCA_IMPORT"):
        create_image_encoder("of_a_module", image_size=64)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MGCA_IMPORT", "my_encoders_of_a_test")
    assert create_image_encoder("of_a_module", image_size=64).out_channels == 256


class TestNames:
    @pytest.mark.parametrize(
        ("name", "parsed"),
        [
            ("resnet50", None),
            ("timm:swin_tiny", ("timm", "swin_tiny", {})),
            ("hf:microsoft/rad-dino", ("hf", "microsoft/rad-dino", {})),
            ("monai:DenseNet121(a=1, b=(2, 'x'))", ("monai", "DenseNet121", {"a": 1, "b": (2, "x")})),
        ],
    )
    def test_parsed(self, name, parsed):
        assert parse_encoder_name(name) == parsed

    @pytest.mark.parametrize("name", ["monai:DenseNet121(a)", "monai:DenseNet121(a=b)", "timm:x(", "hf:x(**{})"])
    def test_ill(self, name):
        with pytest.raises(ValueError, match="is not written as LIBRARY:NETWORK"):
            parse_encoder_name(name)

    def test_folder_whose_name_has_parentheses(self, tmp_path):
        (tmp_path / "a (1)").mkdir()
        assert parse_encoder_name(f"hf:{tmp_path}/a (1)").network == f"{tmp_path}/a (1)"


class TestRefusals:
    """Each says what would work."""

    @pytest.mark.parametrize(
        ("name", "size", "message"),
        [
            ("timm:resnet9999", 64, r"timm has no network 'resnet9999'"),
            ("hf:gpt2", 64, "reads no images: an image encoder of transformers is a vision model, such as dinov2"),
            ("hf:nobody/nothing", 64, "Without network, download it where there is one and pass hf:FOLDER"),
            ("hf:siglip2_vision_model", 224, "an encoder that needs nothing but the image"),
            ("monai:UNet", 64, "monai:UNet|'UNet'"),
            ("monai:DenseNet121(colour=1)", 64, "MONAI cannot build DenseNet121"),
            ("timm:vit_tiny_patch16_224(depth=1)", 100, "set image_size to 96 or 112"),
            ("hf:dinov2(num_hidden_layers=1)", 100, "set image_size to 98 or 112|set image_size to 96 or 112"),
        ],
    )
    def test_name_or_size(self, name, size, message):
        with pytest.raises(ValueError, match=message):
            create_image_encoder(name, image_size=size)

    def test_volumes(self):
        with pytest.raises(ValueError, match="take monai:SwinUNETR"):
            create_image_encoder("timm:convnext_atto", image_size=64, spatial_dims=3)

    def test_folder_without_config(self, tmp_path):
        with pytest.raises(ValueError, match=r"has no config\.json"):
            create_image_encoder(f"hf:{tmp_path}", image_size=64)
        with pytest.raises(ValueError, match=r'no config\.json with timm\'s "architecture"'):
            create_image_encoder(f"timm:{tmp_path}", image_size=64)
        (tmp_path / "config.json").write_text(json.dumps({"architecture": "convnext_atto"}))
        encoder = create_image_encoder(f"timm:{tmp_path}", image_size=64)
        with pytest.raises(CheckpointError, match="holds no weights"):
            load_image_weights(encoder, "pretrained")

    def test_weights_of_another_network(self, tmp_path):
        save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
        for name in ("timm:convnext_atto", "monai:SegResNet"):
            with pytest.raises(CheckpointError):
                load_image_weights(create_image_encoder(name, image_size=64), tmp_path / "a.safetensors")

    def test_weights_of_a_hub_without_network(self):
        encoder = create_image_encoder("timm:convnext_atto", image_size=64)
        with pytest.raises(CheckpointError, match="Without network"):
            load_image_weights(encoder, "pretrained")
