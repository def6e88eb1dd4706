# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math

import pytest
import torch

from monai_mgca.losses import MaskedBCEWithLogitsLoss

NAN = float("nan")


def slow_loss(logits, labels):
    """The mean of the terms of all known labels, by the definition, one by one."""
    terms = []
    for row, wanted in zip(logits, labels.tolist(), strict=True):
        for x, y in zip(row, wanted, strict=True):
            if not math.isnan(y):
                p = 1 / (1 + torch.exp(-x))
                terms.append(-(y * torch.log(p) + (1 - y) * torch.log(1 - p)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("unknown", [0.0, 0.3, 0.9])
def test_equals_a_loop(unknown):
    torch.manual_seed(0)
    logits = (2 * torch.randn(6, 5, dtype=torch.float64)).requires_grad_()
    labels = torch.randint(0, 2, logits.shape).double()
    labels[0, 0] = 0.8  # a soft label is one too
    labels[torch.rand(logits.shape) < unknown] = NAN
    value = MaskedBCEWithLogitsLoss()(logits, labels)
    expected = slow_loss(logits, labels)
    torch.testing.assert_close(value, expected)
    (gradient,), (slow,) = torch.autograd.grad(value, logits), torch.autograd.grad(expected, logits)
    torch.testing.assert_close(gradient, slow)
    assert (gradient[labels.isnan()] == 0).all()


def test_nothing_known_costs_nothing():
    logits = torch.randn(2, 3, requires_grad=True)
    value = MaskedBCEWithLogitsLoss()(logits, torch.full((2, 3), NAN))
    value.backward()
    assert value == 0
    assert torch.equal(logits.grad, torch.zeros(2, 3))


def test_half_precision_is_computed_in_full():
    logits, labels = torch.randn(4, 2).bfloat16(), torch.tensor([[1.0, NAN]] * 4)
    value = MaskedBCEWithLogitsLoss()(logits, labels)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, MaskedBCEWithLogitsLoss()(logits.float(), labels))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ in shape"):
        MaskedBCEWithLogitsLoss()(torch.zeros(2, 3), torch.zeros(2, 1))
