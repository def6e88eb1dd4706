# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from monai_mgca.losses import PrototypeAlignmentLoss, sinkhorn
from monai_mgca.losses.prototype import LARGE, _balance


@pytest.fixture
def scores(unit):
    """Cosines (B, K) of random unit vectors, in float64 and with a gradient."""
    return lambda rows, columns: (unit(rows, 6) @ unit(columns, 6).T).detach().requires_grad_()


@pytest.fixture(params=["log space", "one exponential"])
def way(request, monkeypatch):
    """Both ways of computing codes, whatever the size."""
    if request.param != "log space":
        monkeypatch.setattr("monai_mgca.losses.prototype.LARGE", 0)


def in_log_space(scores, epsilon=0.05, iterations=3):
    """Codes of usual sizes, to the last bit."""
    codes = (scores - scores.max()) / epsilon
    for _ in range(iterations):
        codes = codes.log_softmax(dim=0).log_softmax(dim=1)
    return codes.softmax(dim=1)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("rows", "columns"), [(1, 4), (2, 9), (6, 3), (5, 12)])
@pytest.mark.parametrize(("epsilon", "iterations"), [(0.05, 3), (0.05, 0), (0.3, 1), (0.1, 7)])
def test_sinkhorn_equals_the_formula(slow, scores, rows, columns, epsilon, iterations):
    x = scores(rows, columns)
    expected = torch.tensor(slow.sinkhorn_codes(x, epsilon, iterations), dtype=torch.float64)
    codes = sinkhorn(x, epsilon, iterations)
    assert codes.dtype == torch.float64
    assert not codes.requires_grad
    torch.testing.assert_close(codes, expected, rtol=1e-10, atol=1e-12)


def test_sinkhorn_uses_all_prototypes_equally(scores):
    few, many = (sinkhorn(scores(24, 8), 0.1, iterations) for iterations in (1, 200))
    for codes in (few, many):
        torch.testing.assert_close(codes.sum(1), torch.ones(24).double())
    torch.testing.assert_close(many.sum(0), torch.full((8,), 3.0).double(), rtol=1e-4, atol=1e-4)
    assert (few.sum(0) - 3).abs().max() > 0.05


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("epsilon", "scale"), [(1e-3, 1), (1e-3, 100), (0.05, 100)])
def test_sinkhorn_does_not_overflow(scores, dtype, epsilon, scale):
    codes = sinkhorn((scale * scores(8, 20)).to(dtype), epsilon)
    assert codes.dtype == torch.promote_types(dtype, torch.float32)
    assert codes.isfinite().all()
    assert (codes >= 0).all()
    torch.testing.assert_close(codes.sum(1), torch.ones(8).to(codes.dtype))


@pytest.mark.usefixtures("way")
def test_sinkhorn_order_and_offset_do_not_matter(scores):
    x, rows, columns = scores(6, 5), torch.tensor([4, 0, 5, 1, 3, 2]), torch.tensor([2, 4, 0, 1, 3])
    torch.testing.assert_close(sinkhorn(x[rows][:, columns]), sinkhorn(x)[rows][:, columns])
    torch.testing.assert_close(sinkhorn(x + 3), sinkhorn(x))


@pytest.mark.usefixtures("way")
def test_sinkhorn_leaves_its_input_alone(scores):
    x = scores(6, 5)
    before = x.detach().clone()
    sinkhorn(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("shape", [(72, 500), (144, 500), (8 * 144, 500), (1, 4)])
def test_codes_of_usual_batches_keep_their_last_bits(shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert sinkhorn(x).equal(in_log_space(x))


@pytest.mark.parametrize("iterations", [0, 3, 4])
def test_codes_of_a_large_matrix_take_one_exponential(iterations):
    x = torch.rand(1024, LARGE // 1024, generator=torch.Generator().manual_seed(0)) * 2 - 1
    codes = sinkhorn(x, iterations=iterations)
    torch.testing.assert_close(codes, in_log_space(x, iterations=iterations), rtol=0, atol=1e-7)
    if iterations == 3:  # without rounds there is nothing to balance, and in many what was too small to hold may grow
        assert codes.equal(_balance(x, 0.05, 3))
    else:
        assert codes.equal(in_log_space(x, iterations=iterations))


@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    seed=st.integers(0, 1000),
    epsilon=st.sampled_from((1e-3, 0.005, 0.05, 1.0)),
    iterations=st.integers(1, 3),
    kind=st.sampled_from(("cosines", "far", "low row", "low column", "low corner", "same")),
    dtype=st.sampled_from((torch.float32, torch.float64)),
)
def test_one_exponential_gives_what_log_space_gives(rows, columns, seed, epsilon, iterations, kind, dtype):
    x = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1
    x = {
        "far": lambda: 100 * x,
        "low row": lambda: torch.cat([x[:1] - 50, x[1:]]),
        "low column": lambda: torch.cat([x[:, :1] - 50, x[:, 1:]], 1),
        "low corner": lambda: torch.cat([torch.cat([x[:1, :1] - 50, x[:1, 1:] - 20], 1), x[1:]]),
        "same": lambda: x[:1].expand(rows, columns),
    }.get(kind, lambda: x)()
    x = x.to(dtype)
    codes = _balance(x, epsilon, iterations)
    assert codes.isfinite().all()
    # float32 cannot hold x / epsilon finer than this
    fine = float((x.abs().max() / epsilon) * torch.finfo(dtype).eps) + torch.finfo(dtype).eps
    torch.testing.assert_close(codes.double(), in_log_space(x.double(), epsilon, iterations), rtol=0, atol=20 * fine)


@pytest.mark.parametrize(
    ("name", "kwargs"), [("epsilon", {"epsilon": 0}), ("epsilon", {"epsilon": -1}), ("iterations", {"iterations": -1})]
)
def test_sinkhorn_arguments_are_named(name, kwargs):
    with pytest.raises(ValueError, match=f"^{name} must"):
        sinkhorn(torch.rand(4, 5), **kwargs)


@pytest.mark.parametrize("shape", [(4,), (2, 4, 5)])
def test_sinkhorn_shape_is_named(shape):
    with pytest.raises(ValueError, match=r"^scores must"):
        sinkhorn(torch.rand(shape))


@pytest.mark.parametrize("temperature", [0.2, 0.6])
@pytest.mark.parametrize(("epsilon", "iterations"), [(0.05, 3), (0.2, 0), (0.1, 5)])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_equals_the_formula(slow, scores, agree, rows, epsilon, iterations, temperature):
    image, report = scores(rows, 7), scores(rows, 7)
    expected = slow.prototype_loss(image, report, temperature, epsilon, iterations)
    agree(PrototypeAlignmentLoss(temperature, epsilon, iterations)(image, report), expected, [image, report])


@pytest.mark.usefixtures("way")
def test_codes_of_one_pair_are_uniform(scores):
    assert torch.allclose(sinkhorn(scores(1, 8).float()), torch.full((1, 8), 1 / 8))


def test_order_of_the_pairs_does_not_matter(scores):
    image, report, order = scores(6, 7), scores(6, 7), torch.tensor([3, 1, 5, 0, 2, 4])
    loss = PrototypeAlignmentLoss()
    torch.testing.assert_close(loss(image[order], report[order]), loss(image, report), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(loss(report, image), loss(image, report), rtol=1e-6, atol=1e-7)


def test_agreement_costs_less_than_disagreement(scores):
    image, order = scores(6, 7), torch.tensor([3, 1, 5, 0, 2, 4])
    assert PrototypeAlignmentLoss()(image, image) < PrototypeAlignmentLoss()(image, image[order])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(slow, scores, dtype):
    image, report = (scores(5, 7).detach().to(dtype).requires_grad_() for _ in range(2))
    loss = PrototypeAlignmentLoss()(image, report)
    assert loss.dtype == torch.float32
    expected = slow.prototype_loss(image.detach().double(), report.detach().double(), 0.2, 0.05, 3)
    torch.testing.assert_close(loss.double(), expected, rtol=5e-6, atol=1e-6)
    loss.backward()
    for x in (image, report):
        assert x.grad.dtype == dtype
        assert x.grad.isfinite().all()
        assert x.grad.abs().sum() > 0


def test_autocast_changes_nothing(scores):
    image, report = (scores(5, 7).detach().float().requires_grad_() for _ in range(2))
    loss = PrototypeAlignmentLoss()
    outside = loss(image, report)
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(image, report)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, outside)


@pytest.mark.parametrize("temperature", [0, -1])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="temperature"):
        PrototypeAlignmentLoss(temperature)


@pytest.mark.parametrize(
    ("image", "report"), [((4, 6), (3, 6)), ((4, 6), (4, 5)), ((4, 2, 6), (4, 2, 6)), ((6,), (6,))]
)
def test_shapes_are_named(image, report):
    with pytest.raises(ValueError, match="image_scores and report_scores must both be"):
        PrototypeAlignmentLoss()(torch.ones(image), torch.ones(report))
