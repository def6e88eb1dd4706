# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from monai_mgca.networks import ProjectionHead
from monai_mgca.networks.norm import MaskedBatchNorm

MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]).bool()


@pytest.fixture
def head():
    torch.manual_seed(0)
    return ProjectionHead(5, 7, 3).double()


def norms(affine: bool) -> tuple[MaskedBatchNorm, nn.BatchNorm1d]:
    """Ours and torch's, of the same state, which is not the initial one."""
    torch.manual_seed(0)
    plain = nn.BatchNorm1d(5, affine=affine).double()
    plain(torch.randn(9, 5).double() * 3 + 1)
    if affine:
        nn.init.normal_(plain.weight)
        nn.init.normal_(plain.bias)
    ours = MaskedBatchNorm(5, affine=affine).double()
    ours.load_state_dict(plain.state_dict())
    return ours, plain


@pytest.mark.parametrize("affine", [True, False])
def test_masked_norm_equals_batch_norm_of_the_real_rows(affine):
    ours, plain = norms(affine)
    mask = MASK.flatten()
    rows = (torch.randn(16, 5).double() * 2 + 4).requires_grad_()
    weight = torch.randn(int(mask.sum()), 5).double()
    for _ in range(3):  # running statistics add up
        found, expected = ours(rows, mask)[mask], plain(rows[mask])
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        inputs = [rows], [rows]
        if affine:
            inputs = [rows, ours.weight, ours.bias], [rows, plain.weight, plain.bias]
        grads = [torch.autograd.grad((x * weight).sum(), i) for x, i in zip((found, expected), inputs, strict=True)]
        torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-10)
        for name, value in plain.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize("mask", [None, MASK.flatten()])
def test_norm_in_evaluation_is_batch_norm(mask):
    ours, plain = norms(True)
    rows = torch.randn(16, 5).double()
    torch.testing.assert_close(ours.eval()(rows, mask), plain.eval()(rows))
    assert int(ours.num_batches_tracked) == 1


def test_norm_without_mask_is_batch_norm():
    ours, plain = norms(True)
    rows = torch.randn(16, 5).double()
    torch.testing.assert_close(ours(rows), plain(rows))
    torch.testing.assert_close(ours(rows, torch.ones(16).bool()), plain(rows))
    torch.testing.assert_close(ours.running_var, plain.running_var)


def test_padding_only_is_finite():
    ours, _ = norms(True)
    rows = torch.randn(16, 5).double().requires_grad_()
    output = ours(rows, torch.zeros(16).bool())
    output.sum().backward()
    assert output.isfinite().all()
    assert rows.grad.isfinite().all()
    assert ours.running_var.isfinite().all()


def test_norm_is_float32_under_autocast():
    torch.manual_seed(0)
    norm = MaskedBatchNorm(5)
    rows = torch.randn(16, 5)
    expected = deepcopy(norm)(rows, MASK.flatten())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(norm(rows, MASK.flatten()), expected)
        half = norm(rows.bfloat16(), MASK.flatten())
    assert half.dtype == torch.float32
    assert half.isfinite().all()


@pytest.mark.parametrize("training", [True, False])
def test_unit_vectors(head, training):
    head.train(training)
    for shape in ((6, 5), (4, 4, 5)):
        output = head(torch.randn(shape).double())
        assert output.shape == (*shape[:-1], 3)
        torch.testing.assert_close(output.norm(dim=-1), torch.ones(shape[:-1]).double())


@pytest.mark.parametrize("training", [True, False])
def test_head_equals_its_parts_written_out(head, training):
    layers = nn.Sequential(
        nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3), nn.BatchNorm1d(3, affine=False)
    ).double()
    for ours, theirs in ((head.linear1, 0), (head.norm1, 1), (head.linear2, 3), (head.norm2, 4)):
        layers[theirs].load_state_dict(ours.state_dict())
    head.train(training), layers.train(training)
    features = torch.randn(4, 4, 5).double()
    expected = layers(features[MASK])
    torch.testing.assert_close(head.project(features, MASK)[MASK], expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(head.norm1.running_mean, layers[1].running_mean)
    torch.testing.assert_close(head.norm2.running_var, layers[4].running_var)


@pytest.mark.parametrize("training", [True, False])
def test_more_padding_changes_nothing(head, training):
    head.train(training)
    other = deepcopy(head)
    features = torch.randn(4, 4, 5).double().requires_grad_()
    longer = torch.cat((features, torch.randn(4, 6, 5).double()), dim=1)
    mask = torch.cat((MASK, torch.zeros(4, 6).bool()), dim=1)
    short, long = head(features, MASK), other(longer, mask)[:, :4]
    torch.testing.assert_close(long[MASK], short[MASK], rtol=1e-10, atol=1e-10)
    for name, value in head.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, msg=name)
    weight = torch.randn(int(MASK.sum()), 3).double()
    grads = [torch.autograd.grad((x[MASK] * weight).sum(), features)[0] for x in (short, long)]
    torch.testing.assert_close(*grads, rtol=1e-8, atol=1e-10)
    if training:
        assert not torch.allclose(head(longer)[:, :4][MASK], short[MASK]), (
            "without a mask, padding is in the statistics"
        )


@pytest.mark.parametrize("masked", [True, False])
def test_every_parameter_gets_a_gradient(head, masked):
    head(torch.randn(4, 4, 5).double(), MASK if masked else None)[..., 0].sum().backward()
    assert [name for name, p in head.named_parameters() if p.grad is None] == []
