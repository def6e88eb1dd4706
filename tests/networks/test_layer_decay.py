# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Learning rates that fall with depth, beside those of timm."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_mgca.networks import (
    MGCA,
    ImageEncoder,
    ReportEncoder,
    adapt_towers,
    average_weights,
    create_image_encoder,
    parameter_groups,
)
from monai_mgca.utils.errors import OptionError

BERT = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
TIMM = "vit_tiny_patch16_224"
SIZES = {"embed_dim": 16, "depth": 3, "num_heads": 2}


def make(encoder: nn.Module) -> MGCA:
    return MGCA(encoder, ReportEncoder(BERT), embed_dim=4, hidden_dim=6, num_prototypes=5)


def rates(network: nn.Module, decay: float) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = parameter_groups(network, 1.0, decay)
    return {names[id(parameter)]: group["lr"] for group in groups for parameter in group["params"]}


def test_as_timm():
    timm = pytest.importorskip("timm")
    from timm.optim import param_groups_layer_decay

    theirs = timm.create_model(TIMM, num_classes=3, img_size=32, in_chans=1, **SIZES)
    groups = param_groups_layer_decay(theirs, weight_decay=0, layer_decay=0.7)
    names = {id(parameter): name for name, parameter in theirs.named_parameters()}
    expected = {names[id(parameter)]: group["lr_scale"] for group in groups for parameter in group["params"]}
    network = make(create_image_encoder(f"timm:{TIMM}(embed_dim=16, depth=3, num_heads=2)", image_size=32))
    found = rates(network, 0.7)
    for name, scale in expected.items():
        key = "image_head" if name.startswith("head.") else f"image_encoder.backbone.{name}"
        assert [rate for other, rate in found.items() if other.startswith(key)]
        assert all(rate == pytest.approx(scale) for other, rate in found.items() if other.startswith(key)), name


def test_both_towers():
    found = rates(make(create_image_encoder("resnet_tiny", width=4)), 0.5)
    expected = {
        "image_encoder.backbone.conv1.weight": 0.5**5,
        "image_encoder.backbone.layer1.0.conv1.weight": 0.5**4,
        "image_encoder.backbone.layer4.0.conv2.weight": 0.5,
        "report_encoder.model.embeddings.word_embeddings.weight": 0.5**3,
        "report_encoder.model.encoder.layer.0.output.dense.weight": 0.5**2,
        "report_encoder.model.encoder.layer.1.output.dense.weight": 0.5,
        "word_head.norm1.weight": 1,
        "prototypes.weight": 1,
    }
    assert {name: found[name] for name in expected} == expected


def test_without_a_decay_what_it_was():
    network = make(create_image_encoder("resnet_tiny", width=4))
    network.prototypes.requires_grad_(False)
    plain = [parameter for parameter in network.parameters() if parameter.requires_grad]
    found = parameter_groups(network, 1e-3)
    assert len(found) == len(plain)
    assert all(one is other for one, other in zip(found, plain, strict=True))


def test_every_trained_parameter_once_and_the_highest_rate_first():
    network = make(create_image_encoder("resnet_tiny", width=4))
    adapt_towers(network, {"image": 2, "report": 0})
    groups = parameter_groups(network, 1e-3, 0.5)
    held = [parameter for group in groups for parameter in group["params"]]
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert sorted(map(id, held)) == sorted(map(id, trained))
    assert [group["lr"] for group in groups] == [1e-3, 5e-4, 2.5e-4]


def test_no_groups():
    class Bare(ImageEncoder):
        def __init__(self):
            super().__init__(8, 8)
            self.net = nn.Conv2d(1, 8, 16, 16)

    with pytest.raises(OptionError, match=r"layer_decay is 0\.5: Bare has no blocks or stages"):
        parameter_groups(make(Bare()), 1e-3, 0.5)


class TestAverage:
    def test_by_hand(self):
        """Two steps of a moving average, with the first step's weights as its start, and buffers of the newest."""
        network = nn.BatchNorm1d(1)
        average = average_weights(network, 0.75)
        for weight, mean in ((1.0, 5.0), (3.0, 6.0), (5.0, 7.0)):
            network.weight.data.fill_(weight)
            network.running_mean.fill_(mean)
            average.update_parameters(network)
        # 1, then 0.75 * 1 + 0.25 * 3 = 1.5, then 0.75 * 1.5 + 0.25 * 5
        assert average.module.weight.item() == pytest.approx(2.375)
        assert average.module.running_mean.item() == 7
        assert not average.module.weight.requires_grad

    def test_what_is_frozen_is_the_same_to_the_bit(self):
        network = nn.Linear(50, 50).requires_grad_(False)
        average = average_weights(network, 0.9)
        for _ in range(5):
            average.update_parameters(network)
        assert torch.equal(average.module.weight, network.weight)

    def test_off(self):
        assert average_weights(nn.Linear(1, 1), 0) is None
