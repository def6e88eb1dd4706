# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch

from monai_mgca.losses import InstanceAlignmentLoss, MGCALoss, PrototypeAlignmentLoss, TokenAlignmentLoss
from monai_mgca.networks import soft_match
from monai_mgca.utils import MGCAKeys as Keys

NAMES = ("instance", "token", "prototype")


@pytest.fixture
def output(unit):
    """What MGCA gives, in float64: 4 pairs, 6 patches, 5 words of which some are padding."""
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 0]]).bool()
    word_weights = torch.rand(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * mask
    image_weights = torch.rand(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return {
        Keys.IMAGE_EMBEDDING: unit(4, 3),
        Keys.REPORT_EMBEDDING: unit(4, 3),
        Keys.IMAGE_TOKENS: unit(4, 6, 3),
        Keys.IMAGE_CONTEXT: unit(4, 6, 3),
        Keys.IMAGE_WEIGHTS: image_weights / image_weights.sum(1, keepdim=True),
        Keys.WORD_TOKENS: unit(4, 5, 3),
        Keys.WORD_CONTEXT: unit(4, 5, 3),
        Keys.WORD_WEIGHTS: word_weights / word_weights.sum(1, keepdim=True),
        Keys.WORD_MASK: mask,
        Keys.IMAGE_SCORES: unit(4, 3) @ unit(7, 3).T,
        Keys.REPORT_SCORES: unit(4, 3) @ unit(7, 3).T,
    }


@pytest.fixture
def sides(slow, output):
    """The slow terms: ITA, word side, image side, CPA."""

    def make(mask_padding: bool, tau1: float = 0.07, tau2: float = 0.1, tau3: float = 0.2) -> tuple[torch.Tensor, ...]:
        word = (output[k] for k in (Keys.WORD_TOKENS, Keys.WORD_CONTEXT, Keys.WORD_WEIGHTS, Keys.WORD_MASK))
        image = (output[k] for k in (Keys.IMAGE_TOKENS, Keys.IMAGE_CONTEXT, Keys.IMAGE_WEIGHTS))
        return (
            slow.instance_loss(output[Keys.IMAGE_EMBEDDING], output[Keys.REPORT_EMBEDDING], tau1),
            slow.token_loss(*word, tau2, mask_padding),
            slow.token_loss(*image, None, tau2),
            slow.prototype_loss(output[Keys.IMAGE_SCORES], output[Keys.REPORT_SCORES], tau3, 0.05, 3),
        )

    return make


def leaves(output) -> list[torch.Tensor]:
    return [x for x in output.values() if x.requires_grad]


@pytest.mark.parametrize("weights", [(1, 1, 1), (0.5, 2.0, 3.0), (0, 1, 0)])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_equals_the_formula(output, sides, weights, bidirectional):
    ita, word, image, cpa = sides(True)
    expected = weights[0] * ita + weights[1] * ((word + image) / 2 if bidirectional else word) + weights[2] * cpa
    found = MGCALoss(weights, bidirectional=bidirectional)(output, None)
    inputs = leaves(output)
    found_grads = torch.autograd.grad(found, inputs, allow_unused=True)
    expected_grads = torch.autograd.grad(expected, inputs, materialize_grads=True)
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=0)
    for one, other in zip(found_grads, expected_grads, strict=True):
        one = torch.zeros_like(other) if one is None else one
        torch.testing.assert_close(one, other, rtol=2e-6, atol=2e-6 * float(other.abs().max()))


def test_temperatures_are_those_of_the_parts(output, sides):
    ita, word, image, cpa = sides(True, 0.3, 0.4, 0.5)
    loss = MGCALoss(
        instance=InstanceAlignmentLoss(0.3), token=TokenAlignmentLoss(0.4), prototype=PrototypeAlignmentLoss(0.5)
    )
    torch.testing.assert_close(loss(output), ita + (word + image) / 2 + cpa, rtol=2e-6, atol=0)


def test_components_and_terms_are_unweighted(output, sides):
    ita, word, image, cpa = sides(True)
    loss = MGCALoss((2, 3, 4))
    components = loss.components(output)
    assert tuple(components) == NAMES
    assert all(term.requires_grad for term in components.values())
    for name, expected in zip(NAMES, (ita, (word + image) / 2, cpa), strict=True):
        torch.testing.assert_close(components[name], expected, rtol=2e-6, atol=0)
    assert loss.terms == {}
    total = loss(output)
    assert tuple(loss.terms) == NAMES
    assert not any(term.requires_grad for term in loss.terms.values())
    torch.testing.assert_close(total, sum(w * loss.terms[n] for w, n in zip((2, 3, 4), NAMES, strict=True)))


@pytest.mark.parametrize("off", range(3))
def test_a_term_of_weight_zero_is_not_computed(output, off):
    weights = [1.0, 1.0, 1.0]
    weights[off] = 0.0
    loss = MGCALoss(weights)

    class Never(torch.nn.Module):
        def forward(self, *args):
            raise AssertionError("computed in spite of weight 0")

    setattr(loss, NAMES[off], Never())
    loss(output)
    assert tuple(loss.terms) == tuple(n for n in NAMES if n != NAMES[off])


def test_a_term_of_weight_zero_needs_no_keys(output):
    few = {k: output[k] for k in (Keys.IMAGE_EMBEDDING, Keys.REPORT_EMBEDDING)}
    expected = InstanceAlignmentLoss()(*few.values())
    assert MGCALoss((1, 0, 0))(few) == expected


def test_without_weights_and_mask_all_tokens_count_alike(output):
    bare = {k: v for k, v in output.items() if k not in (Keys.IMAGE_WEIGHTS, Keys.WORD_WEIGHTS, Keys.WORD_MASK)}
    token = TokenAlignmentLoss()
    expected = (
        token(output[Keys.WORD_TOKENS], output[Keys.WORD_CONTEXT])
        + token(output[Keys.IMAGE_TOKENS], output[Keys.IMAGE_CONTEXT])
    ) / 2
    torch.testing.assert_close(MGCALoss((0, 1, 0))(bare), expected)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_official_takes_sums(output, sides, bidirectional):
    ita, word, image, cpa = sides(False)
    expected = 2 * ita + word + (image if bidirectional else 0) + cpa
    if not bidirectional:
        output = {k: v for k, v in output.items() if k not in (Keys.IMAGE_TOKENS, Keys.IMAGE_CONTEXT)}
    torch.testing.assert_close(MGCALoss.official(bidirectional)(output), expected, rtol=2e-6, atol=0)


def test_plain_strings_are_keys_too(output):
    torch.testing.assert_close(MGCALoss()({str(k.value): v for k, v in output.items()}), MGCALoss()(output))


@pytest.mark.parametrize("weights", [(1, 1), (1, 1, 1, 1), (1, -1, 1), (0, 0, 0)])
def test_weights_are_named(weights):
    with pytest.raises(ValueError, match=r"^weights must"):
        MGCALoss(weights)


def test_contexts_that_are_left_out_are_found_by_similarity(output):
    words, patches, mask = (output[key] for key in (Keys.WORD_TOKENS, Keys.IMAGE_TOKENS, Keys.WORD_MASK))
    output[Keys.WORD_CONTEXT] = soft_match(words, patches, 0.2)
    output[Keys.IMAGE_CONTEXT] = soft_match(patches, words, 0.2, mask)
    loss = MGCALoss(token=TokenAlignmentLoss(0.2))
    left = {key: value for key, value in output.items() if key not in (Keys.WORD_CONTEXT, Keys.IMAGE_CONTEXT)}
    both = loss(output), loss(left)
    torch.testing.assert_close(*both)
    torch.testing.assert_close(*(torch.autograd.grad(value, [words, patches], retain_graph=True) for value in both))
    for quirk in (MGCALoss(bidirectional=False), MGCALoss.official()):
        with pytest.raises(ValueError, match="return_contexts"):
            quirk(left)
