# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Image encoders of timm, transformers and MONAI give what their own library computes, from files that it saved."""

from __future__ import annotations

import json

import monai.networks.nets as nets
import pytest
import torch
import transformers
from safetensors.torch import save_file

from monai_mgca.networks import (
    ImageEncoder,
    ImageFeatures,
    create_image_encoder,
    parse_encoder_name,
    rebuilding_name,
    register_image_encoder,
    synchronize_batch_norm,
)
from monai_mgca.utils import CheckpointError
from monai_mgca.weights import load_image_weights

timm = pytest.importorskip("timm")

VIT = {"depth": 2, "embed_dim": 48, "num_heads": 3}
TIMM = {
    "vit_tiny_patch16_224": (64, VIT),
    "vit_small_patch14_dinov2": (56, {**VIT, "init_values": 1e-1}),
    "vit_small_patch14_reg4_dinov2": (56, VIT),
    "vit_small_patch16_dinov3": (64, VIT),
    "eva02_tiny_patch14_224": (56, VIT),
    "vit_base_patch16_siglip_224": (64, VIT),
    "swin_tiny_patch4_window7_224": (64, {"embed_dim": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 2)}),
    "convnext_atto": (64, {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}),
    "densenet121": (64, {"growth_rate": 8, "block_config": (2, 2, 2, 2)}),
    "efficientnet_b0": (64, {}),
}
BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
STAGES = {"depths": [1, 1, 1, 1]}
TRANSFORMERS = {
    "vit": (64, transformers.ViTConfig(**BERT, image_size=64, patch_size=16)),
    "dinov2": (56, transformers.Dinov2Config(**BERT, image_size=56, patch_size=14)),
    "dinov2_with_registers": (56, transformers.Dinov2WithRegistersConfig(**BERT, image_size=56, patch_size=14)),
    "dinov3_vit": (64, transformers.DINOv3ViTConfig(**BERT, image_size=64, patch_size=16, num_register_tokens=4)),
    "siglip": (64, transformers.SiglipVisionConfig(**BERT, image_size=64, patch_size=16)),
    "clip": (64, transformers.CLIPVisionConfig(**BERT, image_size=64, patch_size=16)),
    "swin": (64, transformers.SwinConfig(**STAGES, embed_dim=12, num_heads=[1, 2, 2, 2], window_size=2, image_size=64)),
    "convnext": (64, transformers.ConvNextConfig(**STAGES, hidden_sizes=[8, 16, 24, 32])),
}


@pytest.fixture(scope="module", params=TIMM)
def of_timm(request, tmp_path_factory):
    """A network of timm with random weights, its file, and our encoder that reads it."""
    size, arguments = TIMM[request.param]
    torch.manual_seed(0)
    config = timm.get_pretrained_cfg(request.param)
    own = {"img_size": size} if config.fixed_input_size else {}
    network = timm.create_model(request.param, num_classes=0, **own, **arguments).eval()
    file = tmp_path_factory.mktemp("timm") / "model.safetensors"
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, file)
    listed = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    encoder = create_image_encoder(f"timm:{request.param}({listed})", image_size=size, in_channels=3).eval()
    moved = load_image_weights(encoder, file)
    assert moved == len(network.state_dict())
    return network, encoder, torch.rand(2, 3, size, size), file


def equal(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


class TestTimm:
    def test_features(self, of_timm):
        network, encoder, image, _ = of_timm
        pooled, tokens, _ = encoder(image)
        features = network.forward_features(image)
        equal(pooled, network.forward_head(features, pre_logits=True))
        if features.ndim == 3:
            equal(tokens, features[:, network.num_prefix_tokens :])
        else:
            stages = network.forward_intermediates(image, intermediates_only=True)
            before = [stage for stage in stages if stage.shape[2] == 2 * stages[-1].shape[2]][-1]
            equal(tokens, before.flatten(2).mT)
        assert tokens.shape[1] == (image.shape[2] // encoder.strides[max(len(encoder.strides) - 2, 0)]) ** 2
        assert (encoder.out_channels, encoder.token_channels) == (pooled.shape[1], tokens.shape[2])

    def test_attention_is_that_of_the_unfused_network(self, of_timm):
        network, encoder, image, _ = of_timm
        attention = encoder(image).attention
        if encoder.stage_channels:
            assert attention is None
            return
        held = []
        pool = getattr(network, "attn_pool", None)
        if pool is not None:
            handle = pool.kv.register_forward_hook(lambda *passed: held.append(passed[2]))
            network.forward_head(network.forward_features(image))
            key = held[0].unflatten(2, (2, pool.num_heads, -1))[:, :, 0]
            query = pool.q(pool.latent.expand(2, -1, -1)).unflatten(2, (pool.num_heads, -1))
            own = (torch.einsum("bqhd,bnhd->bhqn", query, key) * pool.scale).softmax(-1)
        else:
            for block in network.blocks:
                block.attn.fused_attn = False
            last = network.blocks[-1].attn.attn_drop
            handle = last.register_forward_pre_hook(lambda _, inputs: held.append(inputs[0]))
            network.forward_features(image)
            own = held[-1]
        handle.remove()
        equal(attention, own.mean(1)[:, 0][:, -attention.shape[1] :])

    def test_gray_images_are_as_equal_channels(self, of_timm):
        _, encoder, image, file = of_timm
        gray = create_image_encoder("timm:" + _name(encoder), image_size=image.shape[2], in_channels=1).eval()
        load_image_weights(gray, file)
        equal(gray(image[:, :1]).pooled, encoder(image[:, :1].expand(-1, 3, -1, -1)).pooled)

    def test_every_trainable_parameter_has_a_gradient(self, of_timm):
        _, encoder, image, _ = of_timm
        pooled, tokens, _ = encoder(image)
        (pooled.sum() + tokens.square().sum()).backward()
        assert [name for name, p in encoder.named_parameters() if p.requires_grad and p.grad is None] == []
        encoder.zero_grad()

    def test_halves_make_the_whole(self, of_timm):
        """The features in the middle lead to the pooled ones."""
        _, encoder, image, _ = of_timm
        equal(encoder.pool_features(encoder.local_features(image)), encoder(image).pooled)

    def test_checkpointing_changes_nothing(self, of_timm):
        _, encoder, image, _ = of_timm
        other = create_image_encoder(
            "timm:" + _name(encoder), image_size=image.shape[2], in_channels=3, checkpointing=True
        )
        other.load_state_dict(encoder.state_dict())
        for part in (encoder, other):
            torch.manual_seed(0)
            part.train()
            part(image).pooled.square().sum().backward()
        for one, two in zip(encoder.parameters(), other.parameters(), strict=True):
            if one.grad is not None:
                torch.testing.assert_close(one.grad, two.grad)
        encoder.zero_grad()
        encoder.eval()

    def test_folder_in_the_format_of_the_hub(self, tmp_path):
        network = timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)).eval()
        timm.models.save_for_hf(network, tmp_path, model_args={"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]})
        encoder = create_image_encoder(f"timm:{tmp_path}", image_size=64, in_channels=3).eval()
        load_image_weights(encoder, "pretrained")
        image = torch.rand(2, 3, 64, 64)
        equal(encoder(image).pooled, network.forward_head(network.forward_features(image), pre_logits=True))
        again = create_image_encoder(rebuilding_name(f"timm:{tmp_path}"), image_size=64, in_channels=3)
        again.load_state_dict(encoder.state_dict())


def _name(encoder):
    listed = ", ".join(f"{key}={value!r}" for key, value in encoder.arguments.items())
    return f"{encoder.network}({listed})"


@pytest.fixture(scope="module", params=TRANSFORMERS)
def of_transformers(request, tmp_path_factory):
    """A vision model of transformers as its library saved it, and our encoder that read the folder."""
    size, config = TRANSFORMERS[request.param]
    torch.manual_seed(0)
    own = {"add_pooling_layer": False} if request.param == "vit" else {}
    model = transformers.AutoModel.from_config(config, **own).eval()
    folder = tmp_path_factory.mktemp("transformers") / request.param
    model.save_pretrained(folder)
    encoder = create_image_encoder(f"hf:{folder}", image_size=size, in_channels=3).eval()
    assert load_image_weights(encoder, "pretrained") == len(model.state_dict())
    return model, encoder, torch.rand(2, 3, size, size), folder


class TestTransformers:
    def test_features(self, of_transformers):
        model, encoder, image, _ = of_transformers
        pooled, tokens, _ = encoder(image)
        output = model(image, output_hidden_states=True)
        last, own = output.last_hidden_state, output.get("pooler_output")
        equal(pooled, last[:, 0] if own is None else own)
        if encoder.stage_channels:
            hidden = output.get("reshaped_hidden_states") or output.hidden_states
            equal(tokens, [h for h in hidden if h.shape[2] == 2 * hidden[-1].shape[2]][-1].flatten(2).mT)
        else:
            equal(tokens, last[:, -16:])

    def test_attention_is_that_of_eager(self, of_transformers):
        model, encoder, image, _ = of_transformers
        attention = encoder(image).attention
        if encoder.stage_channels:
            assert attention is None
            return
        pools = [part for part in model.modules() if isinstance(part, torch.nn.MultiheadAttention)]
        if pools:
            held = []
            handle = pools[0].register_forward_hook(lambda *passed: held.append(passed[2][1]))
            model(image)
            handle.remove()
            equal(attention, held[0][:, 0])
        else:
            model.set_attn_implementation("eager")
            own = model(image, output_attentions=True).attentions[-1]
            model.set_attn_implementation("sdpa")
            equal(attention, own.mean(1)[:, 0, -16:])

    def test_gray_images_are_as_equal_channels(self, of_transformers):
        _, encoder, image, folder = of_transformers
        gray = create_image_encoder(f"hf:{folder}", image_size=image.shape[2], in_channels=1).eval()
        load_image_weights(gray, "pretrained")
        equal(gray(image[:, :1]).pooled, encoder(image[:, :1].expand(-1, 3, -1, -1)).pooled)

    def test_rebuilt_without_its_folder(self, of_transformers):
        _, encoder, image, folder = of_transformers
        name = rebuilding_name(f"hf:{folder}")
        assert str(folder) not in name
        again = create_image_encoder(name, image_size=image.shape[2], in_channels=3).eval()
        again.load_state_dict(encoder.state_dict())
        equal(again(image).tokens, encoder(image).tokens)

    def test_another_size(self, of_transformers):
        """Positions are interpolated by the library itself."""
        model, encoder, image, folder = of_transformers
        size = image.shape[2] * 3 // 2
        other = create_image_encoder(f"hf:{folder}", image_size=size, in_channels=3).eval()
        load_image_weights(other, "pretrained")
        larger = torch.rand(2, 3, size, size)
        more = {"interpolate_pos_encoding": True} if encoder._options else {}
        output = model(larger, **more)
        own = output.get("pooler_output")
        equal(other(larger).pooled, output.last_hidden_state[:, 0] if own is None else own)


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
