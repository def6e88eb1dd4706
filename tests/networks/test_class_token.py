# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import UNETR
from torch import nn

from monai_mgca.networks import ImageEmbedder, ProjectionHead, ViTImageEncoder
from monai_mgca.utils import CheckpointError
from monai_mgca.weights import load_encoder, load_network, load_timm_vit

VIT = {"image_size": 32, "patch_size": 8, "hidden_size": 24, "mlp_dim": 48, "num_layers": 2, "num_heads": 3}


def vit(**kwargs):
    return ViTImageEncoder(**{**VIT, **kwargs}).eval()


def shaken(network: nn.Module) -> nn.Module:
    """Random values everywhere, so that a tensor left behind shows."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network


def same(first, second):
    return all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


def test_class_token_and_its_position_are_moved_either_way(tmp_path):
    """In two parameters as timm has them, or in MONAI's one: the features stay the same."""
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3, "mlp_ratio": 2}
    model = shaken(pytest.importorskip("timm").models.VisionTransformer(num_classes=0, **sizes)).eval()
    apart = vit(in_channels=3, cls_position=True)
    assert load_timm_vit(apart, model.state_dict()) == len(model.state_dict()) + 1
    assert torch.equal(apart.backbone.cls_token, model.cls_token)
    assert torch.equal(apart.backbone.cls_position, model.pos_embed[:, :1])
    image = torch.randn(2, 3, 32, 32)
    wanted = apart(image).pooled
    torch.testing.assert_close(wanted, model.forward_features(image)[:, 0], rtol=0, atol=1e-5)
    for load in (load_encoder, load_network):
        whole, again = vit(in_channels=3), vit(in_channels=3, cls_position=True)
        load(whole, apart.state_dict())
        load(again, whole.state_dict())
        assert torch.equal(whole.backbone.cls_token, model.cls_token + model.pos_embed[:, :1])
        assert not again.backbone.cls_position.any()
        for encoder in (whole, again):
            torch.testing.assert_close(encoder(image).pooled, wanted, rtol=0, atol=1e-6)
        load(again, apart.state_dict())
        assert same(apart, again)
    with pytest.raises(CheckpointError, match=r"1 missing: image_encoder.backbone.cls_token"):  # noqa: PT012
        network = ImageEmbedder(vit(cls_position=True), ProjectionHead(24, 16, 8))
        load_network(network, {k: v for k, v in network.state_dict().items() if not k.endswith("cls_token")})


def test_unetr_leaves_the_class_token_and_its_position_alone():
    source = shaken(vit(image_size=64, patch_size=16, num_layers=12, in_channels=3, cls_position=True))
    sizes = {"hidden_size": 24, "mlp_dim": 48, "num_heads": 3, "spatial_dims": 2, "qkv_bias": True}
    unetr = UNETR(in_channels=1, out_channels=1, img_size=(64, 64), feature_size=4, **sizes)
    assert load_encoder(unetr, source.state_dict()) == len(source.backbone.state_dict()) - 2
