# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch

from monai_mgca.losses import InstanceAlignmentLoss


@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_equals_the_formula(slow, unit, agree, count, temperature):
    image, report = unit(count, 6), unit(count, 6)
    expected = slow.instance_loss(image, report, temperature)
    agree(InstanceAlignmentLoss(temperature)(image, report), expected, [image, report])


def test_known_values():
    eye = torch.eye(4)
    # each row: one cosine of 1 among three of 0
    expected = torch.log(1 + 3 * torch.exp(torch.tensor(-1 / 0.5)))
    torch.testing.assert_close(InstanceAlignmentLoss(0.5)(eye, eye), expected)
    assert InstanceAlignmentLoss()(eye[:1], eye[:1]).item() == 0


def test_order_of_the_pairs_does_not_matter(unit):
    image, report, order = unit(6, 5), unit(6, 5), torch.tensor([3, 1, 5, 0, 2, 4])
    loss = InstanceAlignmentLoss()
    torch.testing.assert_close(loss(image[order], report[order]), loss(image, report))
    torch.testing.assert_close(loss(report, image), loss(image, report))
    assert not torch.isclose(loss(image[order], report), loss(image, report))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(slow, unit, dtype):
    image, report = (unit(5, 6).detach().to(dtype).requires_grad_() for _ in range(2))
    loss = InstanceAlignmentLoss(0.07)(image, report)
    assert loss.dtype == torch.float32
    expected = slow.instance_loss(image.detach(), report.detach(), 0.07)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    loss.backward()
    assert image.grad.dtype == report.grad.dtype == dtype
    assert image.grad.isfinite().all()
    assert report.grad.abs().sum() > 0
    assert report.grad.isfinite().all()


def test_autocast_changes_nothing(unit):
    image, report = unit(5, 6).detach().float().requires_grad_(), unit(5, 6).detach().float()
    loss = InstanceAlignmentLoss()
    outside = loss(image, report)
    with torch.autocast("cpu", torch.bfloat16):
        assert (image @ report.T).dtype == torch.bfloat16
        inside = loss(image, report)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, outside)
    assert torch.equal(*(torch.autograd.grad(x, image)[0] for x in (inside, outside)))


@pytest.mark.parametrize("temperature", [0, -1.0])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="temperature"):
        InstanceAlignmentLoss(temperature)


@pytest.mark.parametrize(
    ("image", "report"), [((4, 6), (3, 6)), ((4, 6), (4, 5)), ((4, 2, 6), (4, 2, 6)), ((6,), (6,))]
)
def test_shapes_are_named(image, report):
    with pytest.raises(ValueError, match="image and report must both be"):
        InstanceAlignmentLoss()(torch.ones(image), torch.ones(report))
