# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from itertools import product

import pytest
import torch

from monai_mgca.losses import MGCALoss
from monai_mgca.networks import MGCA, ReportEncoder, create_image_encoder, freeze_unused
from monai_mgca.utils import MGCAKeys

BERT = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 8,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
ENCODERS = {
    "resnet_tiny": {"width": 4},
    "vit_compact": {"hidden_size": 8, "mlp_dim": 8, "num_layers": 2, "num_heads": 2},
}
IDS = torch.tensor([[2, 7, 8, 9, 3], [2, 11, 3, 0, 0], [2, 12, 13, 3, 0]])
WORDS = torch.tensor([[-1, 0, 0, 1, -1], [-1, 0, -1, -1, -1], [-1, 0, 1, -1, -1]])
MATCHERS = {"similarity": (), "learned": ("word_matcher", "image_matcher")}
WEIGHTS = [weights for weights in product((0, 1), repeat=3) if any(weights)]


def make(encoder: str, **options) -> MGCA:
    torch.manual_seed(0)
    image_encoder = create_image_encoder(encoder, image_size=32, **ENCODERS[encoder])
    return MGCA(image_encoder, ReportEncoder(BERT), embed_dim=4, hidden_dim=6, num_prototypes=5, **options)


def step(network: MGCA, loss: MGCALoss) -> dict[str, torch.Tensor]:
    """The state after a step, as the bundle's configs make one."""
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], 1e-2, weight_decay=0.1)
    torch.manual_seed(1)
    loss(network(torch.rand(3, 1, 32, 32), IDS, (IDS > 0).long(), WORDS)).backward()
    optimizer.step()
    return network.state_dict()


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("matcher", ["similarity", "learned"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_what_is_frozen_has_no_gradient_and_all_else_has_one(encoder, matcher, bidirectional):
    options = {"matcher": matcher, "return_contexts": matcher == "learned" or not bidirectional}
    for weights in WEIGHTS:
        loss = MGCALoss(weights, bidirectional=bidirectional)
        plain, network = make(encoder, **options), make(encoder, **options)
        frozen = freeze_unused(network, loss)
        expected, found = step(plain, loss), step(network, loss)
        without = {name for name, parameter in plain.named_parameters() if parameter.grad is None}
        assert {name for name, parameter in network.named_parameters() if not parameter.requires_grad} == without
        assert {name for name, parameter in network.named_parameters() if parameter.grad is None} == without
        # not a bit of one process's result is another, but for the statistics of heads that were not run
        start = make(encoder, **options).state_dict()
        for name, tensor in expected.items():
            idle = "_head.norm" in name and name.split(".")[0] in frozen
            assert torch.equal(found[name], start[name] if idle else tensor), name
        assert ("prototypes" in frozen) == (weights[2] == 0)
        assert ("image_matcher" in frozen) == (matcher == "learned" and not (weights[1] and bidirectional))
        assert all(any(name.startswith(f"{part}.") for name in without) for part in frozen)


def test_what_was_frozen_before_stays_so_and_a_loss_of_ones_own_changes_nothing(caplog):
    network = make("resnet_tiny")
    network.prototypes.requires_grad_(False)
    with caplog.at_level("INFO"):
        assert freeze_unused(network, MGCALoss((1, 0, 0))) == ["image_token_head", "word_head"]
    assert "no term of the loss depends on them: image_token_head, word_head" in caplog.text
    assert freeze_unused(make("resnet_tiny"), torch.nn.MSELoss()) == []


@pytest.mark.parametrize("matcher", ["similarity", "learned"])
def test_a_term_of_weight_0_runs_no_head_in_training(matcher):
    run = {
        (1, 0, 0): {"image_head", "report_head"},
        (0, 1, 0): {"image_token_head", "word_head"} | set(MATCHERS[matcher]),
        (0, 0, 1): {"image_head", "report_head", "prototypes"},
    }
    for weights, wanted in run.items():
        network, loss, seen = make("resnet_tiny", matcher=matcher), MGCALoss(weights), set()
        freeze_unused(network, loss)
        for name in ("image_head", "report_head", "image_token_head", "word_head", "prototypes", *MATCHERS[matcher]):
            network.get_submodule(name).register_forward_hook(lambda *_, name=name, seen=seen: seen.add(name))
        step(network, loss)
        assert seen == wanted
        output = network.eval()(torch.rand(3, 1, 32, 32), IDS, (IDS > 0).long(), WORDS)
        assert set(output) == set(MGCAKeys), "in evaluation all is there"
