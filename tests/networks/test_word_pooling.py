# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch

from monai_mgca.networks import aggregate_words

WORD_IDS = torch.tensor(
    [
        [-1, 0, 0, 1, 2, 2, 2, -1],
        [-1, 0, -1, -1, -1, -1, -1, -1],
        [-1, -1, -1, -1, -1, -1, -1, -1],
        [0, 1, 2, 3, 4, 5, 6, 7],
        [-1, 2, 0, 2, -1, 0, 5, -1],
    ]
)


def slow(pieces, attention, word_ids, words):
    batch, length, channels = pieces.shape
    summed = [[torch.zeros(channels, dtype=pieces.dtype) for _ in range(words)] for _ in range(batch)]
    weights = [[torch.zeros((), dtype=pieces.dtype) for _ in range(words)] for _ in range(batch)]
    mask = torch.zeros(batch, words).bool()
    for i in range(batch):
        for j in range(length):
            word = int(word_ids[i, j])
            if 0 <= word < words:
                summed[i][word] = summed[i][word] + pieces[i, j]
                weights[i][word] = weights[i][word] + attention[i, j]
                mask[i, word] = True
    return torch.stack([torch.stack(x) for x in summed]), torch.stack([torch.stack(x) for x in weights]), mask


@pytest.mark.parametrize("num_words", [None, 8, 12, 4, 1])
def test_equals_a_loop_with_gradients(num_words):
    pieces = torch.randn(5, 8, 3, dtype=torch.float64, requires_grad=True)
    attention = torch.rand(5, 8, dtype=torch.float64, requires_grad=True)
    found = aggregate_words(pieces, attention, WORD_IDS, num_words)
    expected = slow(pieces, attention, WORD_IDS, num_words or 8)
    torch.testing.assert_close(found[:2], expected[:2], rtol=1e-12, atol=1e-12)
    assert found[2].dtype == torch.bool
    assert torch.equal(found[2], expected[2])
    weight = torch.randn_like(expected[0])
    grads = [
        torch.autograd.grad((x[0] * weight).sum() + x[1].square().sum(), [pieces, attention]) for x in (found, expected)
    ]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-12)
    assert (grads[0][0][2] == 0).all(), "what belongs to no word gets no gradient"


def test_a_word_of_no_attention_is_still_a_word():
    _, attention, mask = aggregate_words(torch.randn(1, 3, 2), torch.zeros(1, 3), torch.tensor([[-1, 0, -1]]), 2)
    assert (attention == 0).all()
    assert mask.tolist() == [[True, False]]


@pytest.mark.parametrize(("pieces", "attention", "ids"), [((2, 4), (2, 4), (2, 4)), ((2, 4, 3), (2, 5), (2, 4)),
                                                   ((2, 4, 3), (2, 4), (2, 5))])  # fmt: skip
def test_shapes_are_named(pieces, attention, ids):
    with pytest.raises(ValueError, match=r"pieces must be .*attention and word_ids"):
        aggregate_words(torch.rand(pieces), torch.rand(attention), torch.zeros(ids, dtype=torch.long))
