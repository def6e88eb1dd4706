# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Padding is left out by lengths that the host knows, and changes nothing: values, gradients, statistics."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from monai_mgca.losses import MGCALoss
from monai_mgca.networks import (
    MGCA,
    ProjectionHead,
    ReportEncoder,
    ViTImageEncoder,
    project_words,
    report_extent,
)
from monai_mgca.utils import MGCAKeys as Keys
from monai_mgca.utils import chunks

BERT = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
BERT |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.3}
LENGTH = 30
# of the tokens, the two marks among them; a report without words, and one that a choice of sentences left with a gap
LENGTHS = [7, 2, 12, 10]
WORDS = [[0, 0, 1, 2, 3], [], [0, 1, 1, 2, 3, 4, 5, 6, 7, 8], [0, 1, -1, -1, -1, 5, 6, 7]]


def batch():
    ids = torch.zeros(4, LENGTH, dtype=torch.long)
    word_ids = torch.full_like(ids, -1)
    for i, (length, words) in enumerate(zip(LENGTHS, WORDS, strict=True)):
        ids[i, :length] = torch.arange(2, 2 + length)
        word_ids[i, 1 : 1 + len(words)] = torch.tensor(words)
    return torch.rand(4, 1, 32, 32).double(), ids, (ids > 0).long(), word_ids


def make(**options):
    torch.manual_seed(0)
    image = ViTImageEncoder(32, hidden_size=16, mlp_dim=16, num_layers=1, num_heads=2)
    network = MGCA(image, ReportEncoder(BERT), embed_dim=8, hidden_dim=12, num_prototypes=5, **options)
    return network.double().train()


def test_extent():
    *_, mask, word_ids = batch()
    assert report_extent(mask, word_ids) == (16, 4 + 0 + 9 + 5)
    assert report_extent(mask[:, :12], word_ids[:, :12]) == (12, 18)
    assert report_extent(mask[1:2], word_ids[1:2]) == (8, 0)
    assert report_extent(mask.to("meta"), word_ids) is None
    # words of a tokenizer without marks: L - 1 at most are kept, as aggregate_words is called for
    assert report_extent(torch.ones(1, 6), torch.arange(6)[None]) == (6, 5)
    assert report_extent(torch.ones(1, 8).long(), torch.arange(8)[None].clamp(max=6)) == (8, 7)


def step(network, extent, given=False):
    """Loss, gradients and statistics of a step; with states of the report encoder that were made before, or not."""
    image, *reports = batch()
    if given:
        reports += [x.detach() for x in network.report_encoder(*reports[:2])]
    output = network(image, *reports, extent=extent)
    loss = MGCALoss()(output)
    loss.backward()
    grads = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return output, {"loss": loss.detach(), **grads, **dict(network.named_buffers())}


@pytest.mark.parametrize("read", [True, False], ids=["read", "not read"])
@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({}, False),
        ({"return_contexts": False, "micro_batch_size": 3}, False),
        ({"matcher": "learned", "pool_report": "mean"}, True),
    ],
)
def test_a_step_is_that_of_the_padded_reports(monkeypatch, options, given, read):
    torch.manual_seed(1)
    padded, cut = make(**options), make(**options)
    extent = report_extent(*batch()[2:])
    if not read:
        monkeypatch.setattr(chunks, "READ_AT_ONCE", ())
    torch.manual_seed(2)
    whole, wanted = step(padded, None, given)
    torch.manual_seed(2)
    output, found = step(cut, extent, given)
    assert (whole[Keys.WORD_TOKENS].shape[1], output[Keys.WORD_TOKENS].shape[1]) == (LENGTH - 1, 16)
    assert output[Keys.WORD_MASK].sum() == extent[1]
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-10, msg=name)


def test_where_padding_counts_nothing_is_cut():
    """As in the official code: every slot is a negative and in the statistics."""
    results = []
    for extent in (None, report_extent(*batch()[2:])):
        torch.manual_seed(2)
        results.append(step(make(mask_padding=False), extent)[1])
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())


def slow_head(head, words, mask):
    """A loop over the real words, with the mean and variance of these alone."""
    rows = torch.stack([words[i, j] for i in range(len(words)) for j in range(words.shape[1]) if mask[i, j]])

    def norm(x, layer):
        x = (x - x.mean(0)) / (x.var(0, unbiased=False) + layer.eps).sqrt()
        return x * layer.weight + layer.bias if layer.affine else x

    rows = norm(head.linear2(norm(head.linear1(rows), head.norm1).relu()), head.norm2)
    rows, found = iter(rows / rows.norm(dim=1, keepdim=True)), []
    for i in range(len(words)):
        found.append([next(rows) if mask[i, j] else words.new_zeros(4) for j in range(words.shape[1])])
    return torch.stack([torch.stack(row) for row in found])


@pytest.mark.parametrize("read", [True, False], ids=["read", "not read"])
def test_real_words_alone_are_projected(monkeypatch, read):
    head = ProjectionHead(6, 10, 4).double().train()
    mask = torch.tensor([[1, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]]).bool()
    words = torch.randn(4, 5, 6, dtype=torch.float64, requires_grad=True)
    share, seen = torch.randn(4, 5, 4), []
    slow = slow_head(head, words, mask)
    wanted = torch.autograd.grad((slow * share).sum(), [words, *head.parameters()])
    if not read:
        monkeypatch.setattr(chunks, "READ_AT_ONCE", ())
    head.linear1.register_forward_hook(lambda module, given, made: seen.append(len(made)))
    tokens = project_words(head, words, mask, count=9)
    found = torch.autograd.grad((tokens * share).sum(), [words, *head.parameters()])
    assert seen == [9]
    assert (tokens[~mask] == 0).all()
    assert (found[0][~mask] == 0).all()
    torch.testing.assert_close(tokens, slow, rtol=0, atol=1e-10)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_no_word_and_one_word(monkeypatch, count, training):
    """As by the mask of a head that sees all slots, its statistics too."""
    mask = torch.arange(6).view(2, 3) < count
    head = ProjectionHead(6, 10, 4).train(training)
    other, words = deepcopy(head), torch.randn(2, 3, 6)
    found = project_words(head, words, mask)
    monkeypatch.setattr(chunks, "READ_AT_ONCE", ())
    wanted = project_words(other, words, mask)  # nobody said how many
    torch.testing.assert_close(found, wanted)
    for name, value in head.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value)


def test_other_lengths_are_not_compiled_anew():
    counter, head = CompileCounter(), ProjectionHead(6, 10, 4).train()
    compiled = torch.compile(lambda *args: project_words(head, *args), backend=counter, fullgraph=True)
    for lengths in ([3, 1], [2, 2], [5, 4], [1, 6], [7, 0], [4, 4]):
        mask = torch.arange(8) < torch.tensor(lengths)[:, None]
        words = torch.randn(2, 8, 6)
        torch.testing.assert_close(compiled(words, mask, sum(lengths)), project_words(deepcopy(head), words, mask))
    assert counter.frame_count <= 2  # of the first length, and of all others
