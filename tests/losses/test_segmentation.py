# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch

from monai_mgca.losses import LogDiceFocalLoss


def slow_loss(logits, masks, lambda_focal, gamma):
    """Pixel by pixel."""
    focal, intersection, total = 0.0, [], []
    for c in range(logits.shape[1]):
        both = everything = torch.zeros(())
        for z, y in zip(logits[:, c].flatten(), masks[:, c].flatten(), strict=True):
            p = 1 / (1 + torch.exp(-z))
            right = p if y == 1 else 1 - p
            focal = focal - (1 - right) ** gamma * torch.log(right)
            both, everything = both + p * y, everything + p + y
        intersection.append(both)
        total.append(everything)
    dice = sum((2 * b + 1) / (t + 1) for b, t in zip(intersection, total, strict=True)) / logits.shape[1]
    return lambda_focal * focal / logits.numel() - torch.log(dice)


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize(("lambda_focal", "gamma"), [(10.0, 2.0), (3.0, 1.0)])
def test_equals_a_loop_over_pixels(classes, lambda_focal, gamma):
    torch.manual_seed(0)
    logits = torch.randn(2, classes, 3, 4, dtype=torch.float64, requires_grad=True)
    masks = torch.randint(0, 2, logits.shape).double()
    value = LogDiceFocalLoss(lambda_focal, gamma)(logits, masks)
    (gradient,) = torch.autograd.grad(value, logits)
    expected = slow_loss(logits, masks, lambda_focal, gamma)
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    # MONAI's focal loss is in float32
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


def test_a_perfect_prediction_costs_nothing():
    masks = torch.zeros(2, 1, 8, 8)
    masks[:, :, 2:5] = 1
    assert LogDiceFocalLoss()((masks - 0.5) * 80, masks) < 1e-5


@pytest.mark.parametrize("filled", [0.0, 1.0])
def test_empty_and_full_masks_are_finite(filled):
    logits = torch.randn(2, 1, 8, 8, requires_grad=True)
    LogDiceFocalLoss()(logits, torch.full_like(logits, filled).detach()).backward()
    assert torch.isfinite(logits.grad).all()


def test_no_overlap_on_many_pixels_is_finite():
    """A small ``smooth`` stands in for many pixels: the Dice is less than what 1 - Dice can hold."""
    logits = torch.full((1, 1, 64, 64), 9.0, requires_grad=True)
    loss = LogDiceFocalLoss(smooth=1e-6)(logits, torch.zeros_like(logits))
    loss.backward()
    assert torch.isfinite(loss)
    assert (logits.grad > 0).all()


def test_half_precision_is_computed_in_full():
    logits, masks = torch.randn(2, 1, 8, 8).bfloat16(), torch.ones(2, 1, 8, 8)
    value = LogDiceFocalLoss()(logits, masks)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, LogDiceFocalLoss()(logits.float(), masks))
