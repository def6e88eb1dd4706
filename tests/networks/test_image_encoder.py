# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from monai.networks.nets import ViT
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet, resnet18

from monai_mgca.networks import ResNetImageEncoder, ViTImageEncoder, create_image_encoder

SMALL_VIT = {"image_size": 32, "patch_size": 8, "hidden_size": 24, "mlp_dim": 48, "num_layers": 3, "num_heads": 3}


def small_vit(**kwargs) -> ViTImageEncoder:
    torch.manual_seed(0)
    encoder = ViTImageEncoder(**{**SMALL_VIT, **kwargs})
    for parameter in encoder.parameters():  # zeros and near-zeros would hide what does not flow
        nn.init.normal_(parameter, std=0.2)
    return encoder


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_vit_shapes(spatial_dims, in_channels):
    encoder = small_vit(spatial_dims=spatial_dims, in_channels=in_channels)
    pooled, tokens, attention = encoder(torch.rand(2, in_channels, *[32] * spatial_dims))
    assert pooled.shape == (2, 24)
    assert encoder.out_channels == 24
    assert tokens.shape == (2, 4**spatial_dims, 24)
    assert encoder.token_channels == 24
    assert attention.shape == (2, 4**spatial_dims)
    assert not attention.requires_grad
    assert ((attention > 0) & (attention < 1)).all()
    assert (attention.sum(1) < 1).all()


@pytest.mark.parametrize(("block", "expansion"), [("basic", 1), ("bottleneck", 4)])
@pytest.mark.parametrize(("spatial_dims", "in_channels"), [(2, 1), (2, 3), (3, 1), (3, 3)])
def test_resnet_shapes(block, expansion, spatial_dims, in_channels):
    encoder = ResNetImageEncoder(block, (1, 1, 1, 1), 4, in_channels, spatial_dims)
    pooled, tokens, attention = encoder(torch.rand(2, in_channels, *[64] * spatial_dims))
    assert pooled.shape == (2, 32 * expansion)
    assert encoder.out_channels == 32 * expansion
    assert tokens.shape == (2, 4**spatial_dims, 16 * expansion)
    assert encoder.token_channels == 16 * expansion
    assert attention is None


def test_tokens_are_in_reading_order():
    """Tokens that the attention weights, masks and boxes are matched with by place."""
    encoder = ResNetImageEncoder("basic", (1, 1, 1, 1), 4).eval()
    image = torch.rand(1, 1, 64, 96)
    tokens = encoder(image).tokens
    net = encoder.backbone
    x = net.layer3(net.layer2(net.layer1(net.maxpool(net.act(net.bn1(net.conv1(image)))))))
    assert x.shape[2:] == (4, 6)
    torch.testing.assert_close(tokens[0, 1 * 6 + 5], x[0, :, 1, 5])


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_vit_equals_monai_s_with_eager_attention(spatial_dims):
    encoder = small_vit(spatial_dims=spatial_dims).eval()
    settings = {k: v for k, v in SMALL_VIT.items() if k != "image_size"}
    plain = ViT(
        in_channels=1, img_size=32, spatial_dims=spatial_dims, classification=True, qkv_bias=True,
        post_activation=None, save_attn=True, **settings,
    ).eval()  # fmt: skip
    foreign = plain.load_state_dict(encoder.backbone.state_dict(), strict=False)
    assert not foreign.unexpected_keys
    assert all("norm_cross_attn" in k or "classification_head" in k for k in foreign.missing_keys)
    for module in plain.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    image = torch.rand(2, 1, *[32] * spatial_dims)
    with torch.no_grad():
        states = plain.norm(plain(image)[1][-1])
        pooled, tokens, attention = encoder(image)
    torch.testing.assert_close(pooled, states[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tokens, states[:, 1:], rtol=1e-4, atol=1e-5)
    matrix = plain.blocks[-1].attn.att_mat
    torch.testing.assert_close(attention, matrix[:, :, 0, 1:].mean(1), rtol=1e-4, atol=1e-6)


def test_class_token_apart_from_its_position():
    whole, apart = (small_vit(cls_position=apart).eval() for apart in (False, True))
    assert "backbone.cls_position" not in whole.state_dict()
    whole.load_state_dict({key: value for key, value in apart.state_dict().items() if "cls_position" not in key})
    whole.backbone.cls_token.data += apart.backbone.cls_position
    image = torch.rand(2, 1, 32, 32)
    given, wanted = apart.train()(image), whole.train()(image)
    assert all(torch.equal(*pair) for pair in zip(given, wanted, strict=True))
    given.pooled.square().sum().backward()
    assert torch.equal(apart.backbone.cls_token.grad, apart.backbone.cls_position.grad)


def test_attention_is_the_first_row_of_the_full_matrix():
    encoder = small_vit().eval()
    seen = {}
    last = encoder.backbone.blocks[-1]
    last.register_forward_pre_hook(lambda module, args: seen.update(x=args[0]))
    with torch.no_grad():
        last.attn.qkv.weight *= 3  # by itself it looks nearly everywhere alike, with some draws more than with others
        attention = encoder(torch.rand(2, 1, 32, 32)).attention
        x = last.norm1(seen["x"])
        rows = []
        for head in range(3):
            part = slice(8 * head, 8 * head + 8)
            weight, bias = last.attn.qkv.weight, last.attn.qkv.bias
            query = x @ weight[:24][part].T + bias[:24][part]
            key = x @ weight[24:48][part].T + bias[24:48][part]
            matrix = (query @ key.transpose(1, 2) / 8**0.5).softmax(-1)
            rows.append(matrix[:, 0, 1:])
    torch.testing.assert_close(attention, torch.stack(rows).mean(0), rtol=1e-5, atol=1e-7)
    assert attention.std() > 1e-3


def test_attention_is_float32_under_autocast():
    encoder = small_vit().eval()
    image = torch.rand(2, 1, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        attention = encoder(image).attention
    assert attention.dtype == torch.float32
    assert attention.isfinite().all()


@pytest.mark.parametrize(
    "make", [small_vit, lambda: small_vit(cls_position=True), lambda: ResNetImageEncoder("basic", (1, 1, 1, 1), 4)]
)
def test_every_parameter_gets_a_gradient(make):
    encoder = make().train()
    pooled, tokens, _ = encoder(
        torch.rand(2, 1, 64, 64) if isinstance(encoder, ResNetImageEncoder) else torch.rand(2, 1, 32, 32)
    )
    (pooled.square().sum() + tokens.square().sum()).backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("make", "size"), [(small_vit, 32), (lambda: ResNetImageEncoder("basic", (1, 1, 1, 1), 4), 64)]
)
def test_checkpointing_gives_the_same_gradients(make, size):
    plain = make().train()
    saving = deepcopy(plain)
    saving.checkpointing = True
    image = torch.rand(2, 1, size, size)
    calls = []
    first = saving.backbone.blocks[0] if isinstance(saving, ViTImageEncoder) else saving.backbone.layer1
    first.register_forward_pre_hook(lambda *args: calls.append(1))
    for encoder in (plain, saving):
        pooled, tokens, _ = encoder(image)
        (pooled.square().sum() + tokens.square().sum()).backward()
    assert len(calls) == 2, "the blocks are computed again in the backward pass"
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, msg=name)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (resnet18, lambda: create_image_encoder("resnet18", in_channels=3)),
        (
            lambda: ResNet(Bottleneck, [2, 1, 1, 1]),
            lambda: ResNetImageEncoder("bottleneck", (2, 1, 1, 1), in_channels=3),
        ),
        (lambda: ResNet(BasicBlock, [2, 1, 1, 1]), lambda: ResNetImageEncoder("basic", (2, 1, 1, 1), in_channels=3)),
    ],
)
def test_resnet_equals_torchvision_s(theirs, ours):
    torch.manual_seed(0)
    theirs, ours = theirs(), ours()
    image = torch.rand(2, 3, 64, 64)
    theirs.train()(image)  # running statistics that are not 0 and 1
    weights = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    ours.backbone.load_state_dict(weights)
    theirs, ours, seen = theirs.eval(), ours.eval(), {}
    theirs.layer3.register_forward_hook(lambda m, a, out: seen.update(tokens=out.flatten(2).transpose(1, 2)))
    theirs.avgpool.register_forward_hook(lambda m, a, out: seen.update(pooled=out.flatten(1)))
    with torch.no_grad():
        theirs(image)
        features = ours(image)
    torch.testing.assert_close(features.pooled, seen["pooled"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(features.tokens, seen["tokens"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "pooled", "tokens"), [("vit_tiny", 192, 192), ("vit_compact", 128, 128), ("resnet_compact", 256, 128)]
)
def test_encoders_by_name(name, pooled, tokens):
    encoder = create_image_encoder(name, image_size=64, in_channels=3)
    features = encoder(torch.rand(1, 3, 64, 64))
    assert features.pooled.shape == (1, pooled)
    assert features.tokens.shape == (1, 16, tokens)


def test_arguments_win_over_the_name():
    assert create_image_encoder("vit_tiny", image_size=32, num_layers=1).backbone.blocks[0] is not None
    assert len(create_image_encoder("vit_tiny", image_size=32, num_layers=1).backbone.blocks) == 1


@pytest.mark.parametrize(("wrong", "near"), [("vit_compat", "vit_compact"), ("resnet5", "resnet50")])
def test_unknown_names_raise_with_the_near_miss(wrong, near):
    with pytest.raises(ValueError, match=f"'{wrong}', did you mean '{near}'"):
        create_image_encoder(wrong)


def test_unknown_blocks_raise_with_the_near_miss():
    with pytest.raises(ValueError, match="did you mean 'bottleneck'"):
        ResNetImageEncoder("bottlenek")
