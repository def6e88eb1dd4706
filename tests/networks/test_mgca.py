# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from monai_mgca.losses import MGCALoss
from monai_mgca.networks import MGCA, ReportEncoder, ResNetImageEncoder, ViTImageEncoder
from monai_mgca.utils import MGCAKeys as Keys

BERT = {
    "vocab_size": 40,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.3,
}
IDS = torch.tensor([[2, 7, 8, 9, 10, 3], [2, 11, 3, 0, 0, 0], [2, 12, 13, 14, 3, 0], [2, 15, 16, 3, 0, 0]])
WORDS = torch.tensor([[-1, 0, 0, 1, 2, -1], [-1, 0, -1, -1, -1, -1], [-1, 0, 1, 2, -1, -1], [-1, 0, 0, -1, -1, -1]])
REPORTS = (IDS, (IDS > 0).long(), WORDS)


def vit(spatial_dims: int = 2) -> ViTImageEncoder:
    size = {"image_size": 64, "patch_size": 16, "hidden_size": 24, "mlp_dim": 48, "num_layers": 2, "num_heads": 3}
    return ViTImageEncoder(**size, spatial_dims=spatial_dims)


def resnet(spatial_dims: int = 2) -> ResNetImageEncoder:
    return ResNetImageEncoder("basic", (1, 1, 1, 1), 8, spatial_dims=spatial_dims)


def make(image_encoder=vit, spatial_dims: int = 2, report: dict | None = None, **kwargs) -> MGCA:
    torch.manual_seed(0)
    sizes = {"embed_dim": 8, "hidden_dim": 16, "num_prototypes": 10, **kwargs}
    return MGCA(image_encoder(spatial_dims), ReportEncoder(BERT, **(report or {})), **sizes)


def images(count: int = 4, spatial_dims: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 1, *[64] * spatial_dims, generator=generator)


def test_contexts_can_be_left_to_the_loss():
    with_contexts, without = make().eval()(images(), *REPORTS), make(return_contexts=False).eval()(images(), *REPORTS)
    assert set(with_contexts) - set(without) == {Keys.WORD_CONTEXT, Keys.IMAGE_CONTEXT}
    assert all(torch.equal(value, with_contexts[key]) for key, value in without.items())
    for wrong in ({"matcher": "learned"}, {"normalize_image_context": False}):
        with pytest.raises(ValueError, match="can be left to the loss"):
            make(return_contexts=False, **wrong)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("matcher", ["similarity", "learned"])
@pytest.mark.parametrize("encoder", [vit, resnet])
def test_keys_and_shapes(encoder, matcher, training):
    output = make(encoder, matcher=matcher).train(training)(images(), *REPORTS)
    assert {str(k.value): tuple(v.shape) for k, v in output.items()} == {
        "image_embedding": (4, 8),
        "report_embedding": (4, 8),
        "image_tokens": (4, 16, 8),
        "word_tokens": (4, 5, 8),
        "image_context": (4, 16, 8),
        "word_context": (4, 5, 8),
        "image_weights": (4, 16),
        "word_weights": (4, 5),
        "word_mask": (4, 5),
        "image_scores": (4, 10),
        "report_scores": (4, 10),
    }
    assert set(output) == set(Keys)
    mask = output[Keys.WORD_MASK]
    assert mask.sum(1).tolist() == [3, 1, 3, 1]
    for key in (Keys.IMAGE_EMBEDDING, Keys.REPORT_EMBEDDING, Keys.IMAGE_TOKENS, Keys.IMAGE_CONTEXT):
        torch.testing.assert_close(output[key].norm(dim=-1), torch.ones(output[key].shape[:-1]))
    torch.testing.assert_close(output[Keys.WORD_TOKENS].norm(dim=-1), mask.float())
    torch.testing.assert_close(output[Keys.WORD_CONTEXT][mask].norm(dim=-1), torch.ones(8))
    for key in (Keys.IMAGE_WEIGHTS, Keys.WORD_WEIGHTS):
        torch.testing.assert_close(output[key].sum(1), torch.ones(4))
        assert not output[key].requires_grad
    assert (output[Keys.WORD_WEIGHTS][~mask] == 0).all()
    for key in (Keys.IMAGE_SCORES, Keys.REPORT_SCORES):
        assert output[key].abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("report", [{}, {"official_embeddings": True}, {"freeze": True}])
@pytest.mark.parametrize("matcher", ["similarity", "learned"])
@pytest.mark.parametrize("encoder", [vit, resnet])
def test_every_parameter_gets_a_gradient(encoder, matcher, report):
    network = make(encoder, matcher=matcher, report=report).train()
    MGCALoss()(network(images(), *REPORTS)).backward()
    without = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    if report.get("freeze"):
        assert frozen
        assert all(name.startswith("report_encoder.") for name in frozen)
    else:
        types = {"report_encoder.model.embeddings.token_type_embeddings.weight"}
        assert frozen == (types if report else set())
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("matcher", ["similarity", "learned"])
@pytest.mark.parametrize("pool_report", ["cls", "mean"])
def test_more_padding_changes_nothing(matcher, training, pool_report):
    network = make(matcher=matcher, pool_report=pool_report).train(training)
    other = deepcopy(network)
    ids, words = F.pad(IDS, (0, 5)), F.pad(WORDS, (0, 5), value=-1)
    short = network(images(), *REPORTS)
    long = other(images(), ids, (ids > 0).long(), words)
    assert long[Keys.WORD_TOKENS].shape[1] == 10
    for key, expected in short.items():
        found = long[key]
        if key in (Keys.WORD_TOKENS, Keys.WORD_CONTEXT, Keys.WORD_WEIGHTS, Keys.WORD_MASK):
            found = found[:, :5]
        if key == Keys.WORD_CONTEXT:  # of words alone; what a padding slot finds is not used
            found, expected = found[short[Keys.WORD_MASK]], expected[short[Keys.WORD_MASK]]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, msg=str(key))
    torch.testing.assert_close(MGCALoss()(long), MGCALoss()(short), rtol=1e-4, atol=1e-5)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_official_padding_is_in_the_statistics():
    network = make(mask_padding=False, normalize_image_context=False).train()
    output = network(images(), *REPORTS)
    padding = output[Keys.WORD_TOKENS][~output[Keys.WORD_MASK]]
    torch.testing.assert_close(padding.norm(dim=-1), torch.ones(len(padding)))
    torch.testing.assert_close(padding, padding[:1].expand_as(padding))
    lengths = output[Keys.IMAGE_CONTEXT].norm(dim=-1)
    assert (lengths < 1 - 1e-3).any()
    assert (lengths <= 1 + 1e-5).all()


def test_one_pair_is_an_error_in_training_alone():
    network, one = make(), [x[:1] for x in REPORTS]
    with pytest.raises(ValueError, match="at least 2 pairs"):
        network.train()(images(1), *one)
    together = network.eval()(images(), *REPORTS)
    alone = network(images(1), *one)
    for key, value in alone.items():
        torch.testing.assert_close(value, together[key][:1], rtol=1e-4, atol=1e-5, msg=str(key))


def test_a_report_without_words_is_finite():
    network = make().train()
    words = WORDS.clone()
    words[1] = -1
    output = network(images(), *REPORTS[:2], words)
    assert not output[Keys.WORD_MASK][1].any()
    assert (output[Keys.WORD_WEIGHTS][1] == 0).all()
    assert (output[Keys.IMAGE_CONTEXT][1] == 0).all()
    loss = MGCALoss()(output)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_given_report_states_equal_computed_ones(training):
    network = make(report={"freeze": True}).train(training)
    other = deepcopy(network)
    states, attention = network.report_encoder(*REPORTS[:2])
    expected = network(images(), *REPORTS)

    def never(*args):
        raise AssertionError("the report encoder was called")

    other.report_encoder.forward = never
    found = other(images(), *REPORTS, report_states=states, report_attention=attention)
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def test_pooling_by_mean_leaves_padding_out():
    network = make(pool_report="mean").eval()
    states, _ = network.report_encoder(*REPORTS[:2])
    pooled = torch.stack([row[:n].mean(0) for row, n in zip(states, REPORTS[1].sum(1), strict=True)])
    expected = network.report_head(pooled)
    torch.testing.assert_close(network.encode_report(*REPORTS)[Keys.REPORT_EMBEDDING], expected)
    assert not torch.allclose(make().eval().encode_report(*REPORTS)[Keys.REPORT_EMBEDDING], expected, atol=1e-2)


def test_scores_are_cosines_and_prototypes_stay_unit():
    network = make().train()
    with torch.no_grad():
        network.prototypes.weight.mul_(torch.arange(1, 11)[:, None])
    expected = F.normalize(network.prototypes.weight.detach(), dim=1)
    evaluated = deepcopy(network).eval()
    output = evaluated(images(), *REPORTS)
    torch.testing.assert_close(output[Keys.IMAGE_SCORES], output[Keys.IMAGE_EMBEDDING] @ expected.T)
    assert not torch.allclose(evaluated.prototypes.weight, expected), "evaluation changes no weight"
    output = network(images(), *REPORTS)
    torch.testing.assert_close(network.prototypes.weight.detach(), expected)
    torch.testing.assert_close(output[Keys.REPORT_SCORES], output[Keys.REPORT_EMBEDDING] @ expected.T)


def test_two_forwards_before_a_backward():
    """As with two views, or losses that are summed over micro-batches."""
    network = make().train()
    loss = MGCALoss()
    (loss(network(images(), *REPORTS)) + loss(network(images().flip(-1), *REPORTS))).backward()
    assert network.prototypes.weight.grad.abs().sum() > 0


def test_the_image_embedder_shares_the_weights():
    network = make(resnet).eval()
    embedder = network.image_embedder()
    torch.testing.assert_close(embedder(images()), network(images(), *REPORTS)[Keys.IMAGE_EMBEDDING])
    assert embedder.image_head.linear1.weight is network.image_head.linear1.weight


@pytest.mark.parametrize(
    ("kwargs", "near"), [({"matcher": "learnd"}, "learned"), ({"matcher": "similarty"}, "similarity")]
)
def test_unknown_options_raise_with_the_near_miss(kwargs, near):
    with pytest.raises(ValueError, match=f"did you mean '{near}'"):
        make(**kwargs)


def test_unknown_pooling_is_named():
    with pytest.raises(ValueError, match="'maen' is not a valid value"):
        make(pool_report="maen")


def test_double_precision():
    output = make(resnet).double().train()(images().double(), *REPORTS)
    floats = {k: v.dtype for k, v in output.items() if v.is_floating_point() and k != Keys.IMAGE_WEIGHTS}
    assert set(floats.values()) == {torch.float64}


@pytest.mark.parametrize("matcher", ["similarity", "learned"])
def test_bfloat16_autocast_is_near_float32(matcher):
    network = make(matcher=matcher).train()
    other = deepcopy(network)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(images(), *REPORTS)
        loss = MGCALoss()(output)
    assert loss.dtype == output[Keys.IMAGE_EMBEDDING].dtype == output[Keys.IMAGE_SCORES].dtype == torch.float32
    loss.backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
    torch.testing.assert_close(loss, MGCALoss()(other(images(), *REPORTS)), rtol=0.15, atol=0)


@pytest.mark.parametrize("encoder", [vit, resnet])
def test_volumes_train(encoder):
    network = make(encoder, spatial_dims=3, matcher="learned").train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    loss, losses = MGCALoss(), []
    for _ in range(3):
        optimizer.zero_grad()
        value = loss(network(images(4, 3), *REPORTS))
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert all(torch.tensor(losses).isfinite())
    assert losses[-1] < losses[0]
    for name, p in network.named_parameters():
        assert p.grad is not None and not torch.equal(p, before[name]), name  # noqa: PT018
    assert set(loss.terms) == {"instance", "token", "prototype"}
