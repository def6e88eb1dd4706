# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Locked towers: what rests, what is trained, and what groups there are."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from monai_mgca.networks import (
    MGCA,
    ImageEncoder,
    ReportEncoder,
    adapt_towers,
    create_image_encoder,
    find_groups,
    lock_tower,
)
from monai_mgca.utils.errors import OptionError

BERT = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
VIT = {"image_size": 32, "hidden_size": 16, "mlp_dim": 16, "num_layers": 3, "num_heads": 2}
SWIN = "timm:swin_tiny_patch4_window7_224(embed_dim=12, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 2))"
CONVNEXT = "timm:convnext_atto(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))"
DENSENET = "monai:DenseNet121(init_features=8, growth_rate=4, block_config=(1, 1, 1, 1))"
DINOV2 = "hf:dinov2(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, patch_size=16)"
HF_SWIN = "hf:swin(embed_dim=12, depths=[1, 1], num_heads=[1, 2])"
IDS = torch.tensor([[2, 7, 8, 9, 3], [2, 5, 6, 3, 0]])
TOWERS = {
    "vit": (lambda: create_image_encoder("vit_compact", **VIT), [f"blocks.{i}" for i in range(3)]),
    "resnet": (lambda: create_image_encoder("resnet_tiny", width=4), [f"layer{i}" for i in range(1, 5)]),
    "swin": (lambda: create_image_encoder(SWIN, image_size=64), [f"layers.{i}" for i in range(4)]),
    "convnext": (lambda: create_image_encoder(CONVNEXT, image_size=64), [f"stages.{i}" for i in range(4)]),
    "densenet": (
        lambda: create_image_encoder(DENSENET, image_size=64),
        [f"features.denseblock{i}" for i in range(1, 5)],
    ),
    "swin of transformers": (
        lambda: create_image_encoder(HF_SWIN, image_size=64),
        [f"encoder.layers.{i}" for i in range(2)],
    ),
    "dinov2": (lambda: create_image_encoder(DINOV2, image_size=32), [f"encoder.layer.{i}" for i in range(3)]),
    "bert": (lambda: ReportEncoder(BERT), [f"encoder.layer.{i}" for i in range(3)]),
    "one layer": (lambda: ReportEncoder({**BERT, "num_hidden_layers": 1}), ["encoder.layer.0"]),
    "distilbert": (
        lambda: ReportEncoder({"model_type": "distilbert", "vocab_size": 30, "dim": 16, "n_heads": 2, "n_layers": 2}),
        [f"transformer.layer.{i}" for i in range(2)],
    ),
    "modernbert": (
        lambda: ReportEncoder({"model_type": "modernbert", **BERT, "pad_token_id": 0}),
        [f"layers.{i}" for i in range(3)],
    ),
}


def make(name: str):
    if name in ("swin", "convnext"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    return TOWERS[name][0]()


def inputs_of(encoder) -> tuple[torch.Tensor, ...]:
    if isinstance(encoder, ReportEncoder):
        return IDS, (IDS > 0).long()
    return (torch.rand(2, 1, *getattr(encoder, "image_size", (32, 32))),)


def step(encoder) -> dict[str, torch.Tensor]:
    """The state after a step that trains whatever is trainable; the inputs are the same."""
    torch.manual_seed(1)
    pooled, tokens, *_ = encoder.train()(*inputs_of(encoder))
    if (loss := pooled.square().sum() + tokens.square().sum()).requires_grad:
        trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
        loss.backward()
        torch.optim.AdamW(trained, 1e-2, weight_decay=0.1).step()
    return encoder.state_dict()


def changed(before, after) -> set[str]:
    return {key for key in before if not torch.equal(before[key], after[key])}


@pytest.mark.parametrize("name", TOWERS)
class TestTowers:
    def test_groups(self, name):
        encoder = make(name)
        groups = find_groups(encoder)
        assert [group.name for group in groups] == ["stem", *TOWERS[name][1]]
        names = [key for group in groups for key in group.parameters]
        body = getattr(encoder, "backbone", None) or encoder.model
        assert sorted(names) == sorted(key for key, _ in body.named_parameters())
        for group in groups[1:-1]:  # and, behind it, what leads to the next
            assert any(key.startswith(f"{group.name}.") for key in group.parameters)

    @pytest.mark.parametrize("unlocked", [0, 1])
    def test_what_is_locked_rests(self, name, unlocked):
        """Weights, and batch norm's statistics."""
        encoder = make(name)
        before = {key: value.clone() for key, value in encoder.state_dict().items()}
        lock_tower(encoder, unlocked)
        group, prefix = find_groups(encoder)[-1], "model." if hasattr(encoder, "model") else "backbone."
        rest = changed(before, step(encoder))
        allowed = (*(f"{prefix}{key}" for key in group.modules if key), *(f"{prefix}{key}" for key in group.parameters))
        assert bool(rest) is bool(unlocked)
        assert all(key.startswith(allowed) for key in rest)
        if unlocked:
            trained = {key for key, parameter in encoder.named_parameters() if parameter.requires_grad}
            assert trained
            assert trained <= rest

    def test_locked_layers_drop_nothing(self, name):
        encoder = make(name)
        lock_tower(encoder)
        for _ in range(2):
            one, other = (encoder.train()(*inputs) for inputs in [inputs_of_seed(encoder)] * 2)
            assert torch.equal(one[0], other[0])


def inputs_of_seed(encoder):
    torch.manual_seed(2)
    return inputs_of(encoder)


def test_locked_report_encoder_is_a_frozen_one():
    """lock_report true and freeze_report_encoder true are one: no graph, and states that may be cached."""
    encoder = ReportEncoder(BERT)
    lock_tower(encoder, 0, "report")
    assert encoder.freeze
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    states, _ = encoder.train()(IDS, (IDS > 0).long())
    assert not states.requires_grad
    assert not any(module.training for module in encoder.modules())


def test_dropout_of_what_is_unlocked_goes_on():
    encoder = ReportEncoder(BERT)
    lock_tower(encoder, 1, "report")
    encoder.train()(IDS, (IDS > 0).long())
    layers = encoder.model.encoder.layer
    assert [layer.output.dropout.training for layer in layers] == [False, False, True]
    assert not encoder.model.embeddings.dropout.training


def test_towers_of_mgca_by_their_names():
    network = MGCA(make("resnet"), make("bert"), embed_dim=4, hidden_dim=6, num_prototypes=5)
    free = deepcopy(network)
    adapt_towers(free)
    assert all(parameter.requires_grad for parameter in free.parameters())
    adapt_towers(network, {"image": 2, "report": 0})
    locked = {key for key, parameter in network.named_parameters() if not parameter.requires_grad}
    assert {key for key, _ in network.named_parameters() if key.startswith("report_encoder.")} <= locked
    assert {key.split(".")[2] for key in locked if key.startswith("image")} == {"conv1", "bn1", "layer1", "layer2"}
    assert all(key.startswith(("report_encoder.", "image_encoder.")) for key in locked)


class Bare(ImageEncoder):
    def __init__(self):
        super().__init__(8, 8)
        self.net = nn.Conv2d(1, 8, 16, 16)


class TestErrors:
    @pytest.mark.parametrize(("name", "unlocked", "groups"), [("resnet", 5, 4), ("vit", 99, 3)])
    def test_more_than_there_are(self, name, unlocked, groups):
        with pytest.raises(OptionError, match=f"unlocked_image_groups is {unlocked}, .* has {groups} groups: give"):
            lock_tower(make(name), unlocked)

    def test_no_groups(self):
        with pytest.raises(OptionError, match=r"unlocked_report_groups is 1: Bare has no blocks .*ModuleList"):
            lock_tower(Bare(), 1, "report")
        lock_tower(Bare())  # as a whole it can be locked
