# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Padding costs nothing where its length is known, changes nothing, and nobody waits to know it."""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from monai.data import MetaTensor

from monai_mgca.losses import MatchedTokenLoss, TokenAlignmentLoss, token, token_contrast
from monai_mgca.losses import matched_token as matched
from monai_mgca.networks import aggregate_words, matching, soft_match
from monai_mgca.utils import chunks

WORDS, PATCHES, DIM = 6, 9, 4
# every length from none to all, and words that are missing between others
LENGTHS = torch.arange(WORDS) < torch.arange(WORDS + 1)[:, None]
HOLES = torch.tensor([[1, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1], [0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]]).bool()
MASKS = [LENGTHS, LENGTHS.flip(0), HOLES, LENGTHS[3:4].expand(4, -1), LENGTHS[-1:].expand(3, -1)]


def both_sides(words, patches, mask):
    return MatchedTokenLoss()(words, patches, word_mask=mask)


def one_side(words, patches, mask):
    return TokenAlignmentLoss()(words, soft_match(words, patches), mask=mask)


def contexts(words, patches, mask):
    return (soft_match(patches, words, key_mask=mask) * torch.arange(DIM, device=words.device)).square().sum()


WAYS = [both_sides, one_side, contexts]


def one_by_one(way, words, patches, mask):
    """Each sample alone, with its real words alone."""
    found = [way(words[i : i + 1, mask[i]], patches[i : i + 1], None) for i in range(len(words)) if mask[i].any()]
    if way is both_sides:  # patches that find no word are all alike
        found += [words.new_tensor(math.log(PATCHES) / 2)] * (len(words) - len(found))
    return torch.stack(found).sum() / (1 if way is contexts else len(words))


@pytest.fixture(params=[2**17, 2 * PATCHES**2, 1], ids=["at once", "pairs", "each"])
def elements(request, monkeypatch):
    """How much is computed at once: all samples, two, or one."""
    monkeypatch.setattr(chunks, "CPU_ELEMENTS", request.param)
    monkeypatch.setattr(token_contrast, "ROWS", PATCHES)


@pytest.mark.parametrize("read", [True, False], ids=["read", "not read"])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("way", WAYS)
def test_equals_real_words_alone(unit, agree, elements, monkeypatch, way, mask, read):
    if not read:
        monkeypatch.setattr(chunks, "READ_AT_ONCE", ())
    words, patches = unit(len(mask), WORDS, DIM), unit(len(mask), PATCHES, DIM)
    found = way(words, patches, mask)
    grads = torch.autograd.grad(found, [words, patches], retain_graph=True)
    assert way is one_side or (grads[0][~mask] == 0).all()
    if way is one_side:  # what padding finds among the patches is not hidden from them, but has no gradient
        assert (grads[0][~mask].abs() < 1e-15).all()
    agree(found, one_by_one(way, words, patches, mask), [words, patches])


@pytest.mark.parametrize("way", [both_sides, contexts])
def test_gradcheck_of_all_lengths(unit, elements, way):
    words, patches = unit(len(LENGTHS), WORDS, DIM), unit(len(LENGTHS), PATCHES, DIM)
    assert torch.autograd.gradcheck(lambda a, b: way(a, b, LENGTHS), (words, patches))


@pytest.mark.parametrize("read", [True, False], ids=["read", "not read"])
@pytest.mark.parametrize("way", [both_sides, one_side])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
def test_what_padding_holds_does_not_count(unit, monkeypatch, way, value, read):
    if not read:
        monkeypatch.setattr(chunks, "READ_AT_ONCE", ())
    words, patches, mask = unit(7, WORDS, DIM), unit(7, PATCHES, DIM), LENGTHS
    expected = way(words, patches, mask)
    filled = words.masked_fill(~mask[:, :, None], value).detach().requires_grad_()
    found = way(filled, patches, mask)
    assert torch.equal(found, expected)
    if way is both_sides:
        found.backward()
        assert filled.grad.isfinite().all()
        assert torch.equal(filled.grad, torch.autograd.grad(expected, words)[0])


@pytest.mark.parametrize("way", [both_sides, one_side])
@pytest.mark.parametrize("temperature", [1 / 30, 0.003])
def test_opposite_and_equal_vectors_at_the_lowest_temperatures(unit, monkeypatch, way, temperature):
    """Exponentials are of cosines from -1 to 1: no maximum is subtracted, and all are numbers."""
    for name in ("MatchedTokenLoss", "TokenAlignmentLoss"):
        kind = globals()[name]
        monkeypatch.setitem(globals(), name, lambda kind=kind: kind(temperature))
    one = unit(1, 1, DIM).detach().float()
    for words, patches in ((one, one), (one, -one), (torch.cat((one, -one), 1), torch.cat((-one, one), 1))):
        words, patches = (x.expand(2, x.shape[1], DIM).clone().requires_grad_() for x in (words, patches))
        found = way(words, patches, torch.ones(2, words.shape[1]).bool())
        assert found.isfinite()
        assert all(grad.isfinite().all() for grad in torch.autograd.grad(found, [words, patches]))


@pytest.mark.parametrize("way", [both_sides, one_side])
def test_autocast_changes_nothing(unit, way):
    words, patches = (unit(7, n, DIM).detach().float().requires_grad_() for n in (WORDS, PATCHES))
    outside = way(words, patches, LENGTHS)
    with torch.autocast("cpu", torch.bfloat16):
        inside = way(words, patches, LENGTHS)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, outside)
    assert torch.equal(*(torch.autograd.grad(x, words)[0] for x in (inside, outside)))


def test_padding_is_left_out_of_the_products(unit, monkeypatch):
    shapes = []

    def watched(rows, columns, scale):
        shapes.append((rows.shape[1], columns.shape[1]))
        return original(rows, columns, scale)

    original = token_contrast.exponentials
    monkeypatch.setattr(token_contrast, "exponentials", watched)
    monkeypatch.setattr(matched, "exponentials", watched)
    monkeypatch.setattr(chunks, "CPU_ELEMENTS", 2 * PATCHES**2)
    words, patches, mask = unit(4, WORDS, DIM), unit(4, PATCHES, DIM), LENGTHS[[1, 2, 3, 3]]
    both_sides(words, patches, mask)
    of_patches = (PATCHES, PATCHES)
    assert shapes == [(2, PATCHES), (2, 2), of_patches, (3, PATCHES), (3, 3), of_patches]
    shapes.clear()
    one_side(words, patches, mask)
    assert max(shapes) == (3, 3)


def test_parts():
    assert chunks.parts(None, 3, 2) == [(slice(0, 2), slice(None), None), (slice(2, 3), slice(None), None)]
    found = chunks.parts(LENGTHS[[2, 2, 0, 3, 0]], 5, 2)
    assert [part.tokens.stop for part in found] == [2, 3, 1]
    assert found[0].mask is None, "where all count there is nothing to hide"
    assert found[1].mask.tolist() == [[False] * 3, [True] * 3]
    assert found[2].mask.tolist() == [[False]]


def test_no_value_is_needed_on_a_device(monkeypatch):
    """Tensors of the device "meta" have no values: who asks for one gets an error."""
    for module in (matched, token, matching):  # "meta" knows no autocast
        monkeypatch.setattr(module, "full_precision", lambda *tensors: nullcontext(tensors))
    words, patches = (torch.empty(7, n, DIM, device="meta", requires_grad=True) for n in (WORDS, PATCHES))
    mask = torch.ones(7, WORDS, dtype=torch.bool, device="meta")
    for way in WAYS:
        found = way(words, patches, mask)
        assert [grad.shape for grad in torch.autograd.grad(found, [words, patches])] == [words.shape, patches.shape]
    pieces = torch.empty(2, 8, DIM, device="meta", requires_grad=True)
    ids = torch.empty(2, 8, dtype=torch.int64, device="meta")
    found, _, mask = aggregate_words(pieces, torch.empty(2, 8, device="meta"), ids, 5)
    assert found.shape == (2, 5, DIM)
    assert mask.shape == (2, 5)
    assert torch.autograd.grad(found.sum(), pieces)[0].shape == pieces.shape


@pytest.mark.parametrize("value", [0.0, torch.nan])
@pytest.mark.parametrize("num_words", [8, 3])
def test_aggregation_reads_no_further_than_the_words(monkeypatch, num_words, value):
    ids = torch.tensor([[-1, 0, 0, 1, -1, -1, -1, -1], [-1, 0, 1, 2, 2, 3, -1, -1], [-1] * 8])
    pieces = torch.randn(3, 8, 5).masked_fill((ids < 0)[:, :, None], value).requires_grad_()
    attention, results = torch.rand(3, 8), []
    for kinds in (("cpu",), ()):
        monkeypatch.setattr(chunks, "READ_AT_ONCE", kinds)
        words, shares, mask = aggregate_words(pieces, attention, ids, num_words)
        results.append((words, shares, mask, torch.autograd.grad(words.square().sum(), pieces)[0]))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
        assert one.isfinite().all()
    assert results[0][2].sum() == 2 + min(num_words, 4)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mask", MASKS[:2])
def test_tensors_with_meta_data(way, mask):
    """As volumes give them: some of MONAI's methods take other arguments than torch's."""
    generator = torch.Generator().manual_seed(0)
    words, patches = (torch.randn(len(mask), n, DIM, generator=generator).requires_grad_() for n in (WORDS, PATCHES))
    total = way(words, patches, mask)
    wanted = torch.autograd.grad(total, (words, patches))
    leaves = [MetaTensor(x.detach()).requires_grad_() for x in (words, patches)]
    with_meta = way(*leaves, mask)
    assert with_meta.item() == total.item()
    for found, expected in zip(torch.autograd.grad(with_meta, leaves), wanted, strict=True):
        assert torch.equal(torch.as_tensor(found), expected)
