# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The fast token losses against the plain formulas that stand beside them, and these against loops."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from monai_mgca.losses import MatchedTokenLoss, TokenAlignmentLoss
from monai_mgca.losses.token_reference import (
    matched_token_reference,
    soft_match_reference,
    token_contrast_reference,
)
from monai_mgca.networks import soft_match

TEMPERATURES = (0.05, 0.1, 0.5)


def unit(*shape):
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1).requires_grad_()


@pytest.fixture
def batch():
    """Words and patches of four samples, with weights; the mask hides some words, of the last all."""
    torch.manual_seed(0)
    mask = torch.arange(7) < torch.tensor([7, 5, 1, 0])[:, None]
    weights = torch.rand(4, 7, dtype=torch.float64) * mask
    patch_weights = torch.rand(4, 11, dtype=torch.float64)
    weights = weights / weights.sum(1, keepdim=True).clamp_min(1e-9)
    return unit(4, 7, 16), unit(4, 11, 16), weights, patch_weights / patch_weights.sum(1, keepdim=True), mask


def same(fast, plain, *inputs):
    torch.testing.assert_close(fast, plain, rtol=1e-10, atol=1e-12)
    for found, wanted in zip(torch.autograd.grad(fast, inputs), torch.autograd.grad(plain, inputs), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("masked", [True, False])
def test_one_side(batch, temperature, masked):
    words, _, weights, _, mask = batch
    context, mask = unit(4, 7, 16), mask if masked else None
    fast = TokenAlignmentLoss(temperature)(words, context, weights, mask)
    same(fast, token_contrast_reference(words, context, weights, mask, temperature), words, context)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_both_sides_with_matching(batch, temperature):
    words, patches, weights, patch_weights, mask = (value[:3] for value in batch)  # each has a word
    fast = MatchedTokenLoss(temperature)(words, patches, weights, patch_weights, mask)
    plain = matched_token_reference(words, patches, weights, patch_weights, mask, temperature)
    same(fast, plain, words, patches)


def test_matching(batch):
    words, patches, _, _, mask = (value[:3] for value in batch)
    found = F.normalize(soft_match(patches, words, 0.1, mask), dim=2)
    torch.testing.assert_close(found, soft_match_reference(patches, words, mask, 0.1))


def test_the_plain_formula_is_the_loops(batch, slow):
    words, _, weights, _, mask = batch
    context = unit(4, 7, 16)
    plain = token_contrast_reference(words, context, weights, mask, 0.1)
    torch.testing.assert_close(plain, slow.token_loss(words, context, weights, mask, 0.1))
