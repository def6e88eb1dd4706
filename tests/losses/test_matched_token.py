# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from monai_mgca.losses import MatchedTokenLoss, TokenAlignmentLoss, token_contrast
from monai_mgca.networks import soft_match
from monai_mgca.utils import chunks

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]).bool()


def in_steps(words, patches, word_weights, patch_weights, mask, temperature):
    """The parts that have tests of their own, one after the other."""
    loss = TokenAlignmentLoss(temperature)
    of_words = loss(words, soft_match(words, patches, temperature), word_weights, mask)
    found = soft_match(patches, words, temperature, mask)
    return (of_words + loss(patches, found, patch_weights)) / 2


def inputs(unit, weighted, mask):
    words, patches = unit(4, 5, 3), unit(4, 7, 3)
    generator = torch.Generator().manual_seed(3)
    weights = [torch.rand(4, n, generator=generator, dtype=torch.float64) + 0.1 for n in (5, 7)]
    weights[0] = weights[0] if mask is None else weights[0] * mask
    weights = [w / w.sum(1, keepdim=True).clamp_min(1e-9) if weighted else None for w in weights]
    return words, patches, *weights, mask


@pytest.mark.parametrize("temperature", [0.004, 0.1, 0.6])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("mask", [None, MASK])
def test_equals_matching_and_loss_in_steps(unit, agree, mask, weighted, temperature):
    words, patches, *rest = inputs(unit, weighted, mask)
    found = MatchedTokenLoss(temperature)(words, patches, *rest)
    agree(found, in_steps(words, patches, *rest, temperature), [words, patches])


@pytest.mark.parametrize("mask", [None, MASK])
def test_gradcheck(unit, mask):
    words, patches, *rest = inputs(unit, True, mask)
    assert torch.autograd.gradcheck(lambda a, b: MatchedTokenLoss()(a, b, *rest), (words, patches))


def test_in_chunks_as_at_once(unit, monkeypatch):
    words, patches, *rest = inputs(unit, True, MASK)
    results = []
    monkeypatch.setattr(token_contrast, "ROWS", 1)
    for elements in (2**17, 98, 49, 20, 1):
        monkeypatch.setattr(chunks, "CPU_ELEMENTS", elements)
        loss = MatchedTokenLoss()(words, patches, *rest)
        results.append((loss, *torch.autograd.grad(loss, [words, patches])))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-12, atol=1e-14)


def test_nothing_but_gradients_is_saved(unit):
    words, patches, sizes = unit(3, 40, 4), unit(3, 50, 4), []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        loss = MatchedTokenLoss()(words, patches)
    assert sorted(sizes)[-2:] == [3 * 40 * 4, 3 * 50 * 4]
    loss.backward()
    assert words.grad.abs().sum() > 0
    with torch.no_grad():
        assert torch.equal(MatchedTokenLoss()(words, patches), loss)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(unit, dtype):
    words, patches = (unit(4, n, 3).detach().to(dtype).requires_grad_() for n in (5, 7))
    loss = MatchedTokenLoss()(words, patches, word_mask=MASK)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, MatchedTokenLoss()(words.float(), patches.float(), word_mask=MASK))
    loss.backward()
    assert words.grad.dtype == dtype
    assert words.grad.isfinite().all()


def test_tokens_of_a_volume_fit(monkeypatch):
    """What is held at once is a block of 64 rows: never P x P numbers."""
    monkeypatch.setattr(chunks, "CPU_ELEMENTS", 2**14)
    words, patches = (F.normalize(torch.randn(1, n, 8), dim=-1).requires_grad_() for n in (9, 1500))
    largest = []
    original = token_contrast._exponentials_of_rows

    def watched(*arguments):
        found = original(*arguments)
        largest.append(found.numel())
        return found

    monkeypatch.setattr(token_contrast, "_exponentials_of_rows", watched)
    MatchedTokenLoss()(words, patches).backward()
    assert max(largest) == 64 * 1500 < 1500**2 / 20


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("words", [(4, 5, 3), (4, 7, 2), None, None, None]),
        ("words", [(4, 5), (4, 7, 3), None, None, None]),
        ("word_weights", [(4, 5, 3), (4, 7, 3), (4, 7), None, None]),
        ("patch_weights", [(4, 5, 3), (4, 7, 3), None, (4, 5), None]),
        ("word_mask", [(4, 5, 3), (4, 7, 3), None, None, (4, 7)]),
    ],
)
def test_shapes_are_named(name, shapes):
    with pytest.raises(ValueError, match=f"^{name} must"):
        MatchedTokenLoss()(*(None if shape is None else torch.ones(shape) for shape in shapes))
