# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Image encoders of timm give what timm computes, from files that it saved."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from monai_mgca.networks import create_image_encoder, rebuilding_name
from monai_mgca.weights import load_image_weights

from .equal_features import answers_gray_as_equal_channels, equal

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
        answers_gray_as_equal_channels(gray, encoder, image)

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
