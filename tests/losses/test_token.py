# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from monai_mgca.losses import TokenAlignmentLoss, token_contrast
from monai_mgca.utils import chunks

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]]).bool()


def some_weights(mask: torch.Tensor | None) -> torch.Tensor:
    weights = torch.rand(MASK.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64) + 0.1
    weights = weights if mask is None else weights * mask
    return weights / weights.sum(1, keepdim=True)


@pytest.mark.parametrize("temperature", [0.004, 0.1, 0.6])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("mask", "mask_padding"), [(None, True), (MASK, True), (MASK, False)])
def test_equals_the_formula(slow, unit, agree, mask, mask_padding, weighted, temperature):
    words, context = unit(4, 5, 3), unit(4, 5, 3)
    weights = some_weights(mask) if weighted else None
    expected = slow.token_loss(words, context, weights, mask, temperature, mask_padding)
    found = TokenAlignmentLoss(temperature, mask_padding)(words, context, weights, mask)
    agree(found, expected, [words, context])


@pytest.mark.parametrize("mask", [None, MASK])
def test_gradcheck(unit, mask):
    weights, loss = some_weights(mask), TokenAlignmentLoss()
    words, context = unit(4, 5, 3), unit(4, 5, 3)
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, weights, mask), (words, context))
    assert torch.autograd.gradcheck(lambda a: loss(a, context.detach(), weights, mask), (words,))


def test_in_chunks_as_at_once(unit, monkeypatch):
    words, context, weights = unit(4, 5, 3), unit(4, 5, 3), some_weights(MASK)
    results = []
    monkeypatch.setattr(token_contrast, "ROWS", 1)
    for elements in (2**21, 75, 25, 12, 1):  # all samples at once, three and one, one by one, some rows, row by row
        monkeypatch.setattr(chunks, "CPU_ELEMENTS", elements)
        loss = TokenAlignmentLoss()(words, context, weights, MASK)
        results.append((loss, *torch.autograd.grad(loss, [words, context])))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-13, atol=1e-15)


def test_nothing_of_size_b_n_n_is_saved(unit):
    words, context = unit(3, 40, 4), unit(3, 40, 4)
    mask = torch.ones(3, 40).bool()
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        loss = TokenAlignmentLoss()(words, context, mask=mask)
    assert sizes
    assert max(sizes) <= 3 * 40 * 4 < 3 * 40 * 40
    loss.backward()
    assert words.grad.abs().sum() > 0


def test_order_of_samples_and_tokens_does_not_matter(unit):
    words, context, weights, loss = unit(4, 5, 3), unit(4, 5, 3), some_weights(MASK), TokenAlignmentLoss()
    expected = loss(words, context, weights, MASK)
    for a, b in (((2, 0, 3, 1), slice(None)), (slice(None), (4, 1, 0, 3, 2))):
        shuffled = [
            x[list(a) if isinstance(a, tuple) else a][:, list(b) if isinstance(b, tuple) else b]
            for x in (words, context, weights, MASK)
        ]
        torch.testing.assert_close(loss(*shuffled), expected)


def test_more_padding_changes_nothing(unit):
    words, context, weights, loss = unit(4, 5, 3), unit(4, 5, 3), some_weights(MASK), TokenAlignmentLoss()
    longer = [torch.cat((x, unit(4, 7, 3)), dim=1) for x in (words, context)]
    mask = F.pad(MASK, (0, 7))
    for given in (weights, None):
        expected = loss(words, context, given, MASK)
        found = loss(*longer, None if given is None else F.pad(given, (0, 7)), mask)
        torch.testing.assert_close(found, expected)
        wanted = torch.autograd.grad(expected, [words, context])
        torch.testing.assert_close(torch.autograd.grad(found, [words, context]), wanted)
    official = TokenAlignmentLoss(mask_padding=False)
    assert official(*longer, F.pad(weights, (0, 7)), mask) > official(words, context, weights, MASK)


def test_weight_on_padding_does_not_count(unit):
    words, context, weights = unit(4, 5, 3), unit(4, 5, 3), some_weights(MASK)
    noisy = weights + 0.3 * ~MASK
    loss = TokenAlignmentLoss()
    assert torch.equal(loss(words, context, noisy, MASK), loss(words, context, weights, MASK))


def test_batch_of_one_is_the_mean_s_part(unit):
    words, context, weights, loss = unit(4, 5, 3), unit(4, 5, 3), some_weights(MASK), TokenAlignmentLoss()
    parts = [loss(words[i : i + 1], context[i : i + 1], weights[i : i + 1], MASK[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(torch.stack(parts).mean(), loss(words, context, weights, MASK))


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("real", [0, 1])
def test_reports_of_padding_only_and_of_one_word_add_nothing(unit, real, weighted):
    words, context = unit(2, 5, 3), unit(2, 5, 3)
    mask = torch.arange(5) < torch.tensor([[5], [real]])
    weights = mask / mask.sum(1, keepdim=True).clamp_min(1) if weighted else None
    loss = TokenAlignmentLoss()
    found = loss(words, context, weights, mask)
    torch.testing.assert_close(found, loss(words[:1], context[:1]) / 2)
    for grad in torch.autograd.grad(found, [words, context]):
        assert grad.isfinite().all()
        assert grad[0].abs().sum() > 0
        assert (grad[1] == 0).all()


def test_weights_get_no_gradient(unit):
    words, context, weights = unit(4, 5, 3), unit(4, 5, 3), some_weights(None).requires_grad_()
    TokenAlignmentLoss()(words, context, weights).backward()
    assert weights.grad is None
    assert words.grad is not None


def test_one_side_alone_may_want_a_gradient(unit):
    words, context = unit(2, 5, 3), unit(2, 5, 3)
    wanted = torch.autograd.grad(TokenAlignmentLoss()(words, context), [words, context])
    for i, inputs in enumerate(((words, context.detach()), (words.detach(), context))):
        torch.testing.assert_close(torch.autograd.grad(TokenAlignmentLoss()(*inputs), inputs[i])[0], wanted[i])
    with torch.no_grad():
        assert not TokenAlignmentLoss()(words, context).requires_grad


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(slow, unit, dtype, weighted):
    words, context = (unit(4, 5, 3).detach().to(dtype).requires_grad_() for _ in range(2))
    weights = some_weights(MASK) if weighted else None
    loss = TokenAlignmentLoss()(words, context, weights, MASK)
    assert loss.dtype == torch.float32
    expected = slow.token_loss(words.detach(), context.detach(), weights, MASK, 0.1)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    loss.backward()
    for x in (words, context):
        assert x.grad.dtype == dtype
        assert x.grad.isfinite().all()
        assert x.grad.abs().sum() > 0


def test_autocast_changes_nothing(unit):
    words, context = (unit(4, 5, 3).detach().float().requires_grad_() for _ in range(2))
    weights, loss = some_weights(MASK).float(), TokenAlignmentLoss()
    outside = loss(words, context, weights, MASK)
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(words, context, weights, MASK)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, outside)
    assert torch.equal(*(torch.autograd.grad(x, words)[0] for x in (inside, outside)))


@pytest.mark.parametrize("temperature", [0, -0.1])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="temperature"):
        TokenAlignmentLoss(temperature)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("tokens and context", [(4, 5, 3), (4, 6, 3), (4, 5), (4, 5)]),
        ("tokens and context", [(5, 3), (5, 3), (4, 5), (4, 5)]),
        ("weights", [(4, 5, 3), (4, 5, 3), (4, 6), (4, 5)]),
        ("mask", [(4, 5, 3), (4, 5, 3), (4, 5), (5,)]),
    ],
)
def test_shapes_are_named(name, shapes):
    with pytest.raises(ValueError, match=f"^{name} must"):
        TokenAlignmentLoss()(*(torch.ones(shape) for shape in shapes))
