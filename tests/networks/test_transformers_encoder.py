# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Vision models of transformers give as image encoders what transformers computes, from folders that it saved."""

from __future__ import annotations

import pytest
import torch
import transformers

from monai_mgca.networks import create_image_encoder, rebuilding_name
from monai_mgca.weights import load_image_weights

from .equal_features import answers_gray_as_equal_channels, equal

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
        answers_gray_as_equal_channels(gray, encoder, image)

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
