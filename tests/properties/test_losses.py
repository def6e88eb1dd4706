# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from monai_mgca.losses import (
    InstanceAlignmentLoss,
    MatchedTokenLoss,
    MGCALoss,
    PrototypeAlignmentLoss,
    TokenAlignmentLoss,
)
from monai_mgca.utils import MGCAKeys as Keys

HALF = (torch.float32, torch.bfloat16, torch.float16)
NAMES = ("instance", "token", "matched", "prototype", "mgca")


class Batch(NamedTuple):
    """What the losses take, in float64."""

    image: torch.Tensor
    report: torch.Tensor
    words: torch.Tensor
    patches: torch.Tensor
    context: torch.Tensor
    mask: torch.Tensor
    image_scores: torch.Tensor
    report_scores: torch.Tensor
    temperature: float


@st.composite
def batches(draw, smallest: int = 1) -> Batch:
    """Random unit vectors, some of them zero, the same in all samples, opposite, or along one axis; short reports."""
    count, words, patches, size = (
        draw(st.integers(low, high)) for low, high in ((smallest, 4), (1, 5), (1, 5), (2, 4))
    )
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))

    def vectors(*shape: int) -> torch.Tensor:
        found = F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)
        kind = draw(st.sampled_from(("random", "zero", "same", "opposite", "axis")))
        if kind == "zero":
            found[draw(st.integers(0, len(found) - 1))] = 0
        elif kind == "same":
            found[:] = found[:1].clone()
        elif kind == "opposite":
            found[1:] = -found[:1]
        elif kind == "axis":
            found = torch.eye(shape[-1], dtype=torch.float64)[0].expand(shape).clone()
        return found

    lengths = torch.tensor([draw(st.integers(0, words)) for _ in range(count)])
    scores = [vectors(count, size).clamp(-1, 1) for _ in "ab"]
    return Batch(
        *(vectors(count, size) for _ in "ab"),
        vectors(count, words, size),
        vectors(count, patches, size),
        vectors(count, words, size),
        torch.arange(words) < lengths[:, None],
        *scores,
        temperature=draw(st.sampled_from((0.005, 0.07, 0.1, 1.0))),
    )


def output_of(batch: Batch) -> dict[str, torch.Tensor]:
    return {
        Keys.IMAGE_EMBEDDING: batch.image,
        Keys.REPORT_EMBEDDING: batch.report,
        Keys.WORD_TOKENS: batch.words,
        Keys.IMAGE_TOKENS: batch.patches,
        Keys.WORD_MASK: batch.mask,
        Keys.IMAGE_SCORES: batch.image_scores,
        Keys.REPORT_SCORES: batch.report_scores,
    }


def compute(name: str, batch: Batch) -> torch.Tensor:
    t = batch.temperature
    if name == "instance":
        return InstanceAlignmentLoss(t)(batch.image, batch.report)
    if name == "token":
        return TokenAlignmentLoss(t)(batch.words, batch.context, mask=batch.mask)
    if name == "matched":
        return MatchedTokenLoss(t)(batch.words, batch.patches, word_mask=batch.mask)
    if name == "prototype":
        return PrototypeAlignmentLoss(t)(batch.image_scores, batch.report_scores)
    parts = (InstanceAlignmentLoss(t), TokenAlignmentLoss(t), PrototypeAlignmentLoss(t))
    return MGCALoss((1, 0.5, 2), *parts)(output_of(batch))


def with_gradients(name: str, batch: Batch) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """The loss, and its gradients of all inputs but the mask; None where it does not use one."""
    given = [x.detach().clone().requires_grad_() if i != 5 else x for i, x in enumerate(batch[:-1])]
    loss = compute(name, Batch(*given, batch.temperature))
    wanted = [x for i, x in enumerate(given) if i != 5]
    return loss, list(torch.autograd.grad(loss, wanted, allow_unused=True))


def assert_same(found: list, wanted: list) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
@given(batch=batches(), data=st.data())
def test_the_order_of_samples_does_not_matter(name, batch, data):
    order = data.draw(st.permutations(range(len(batch.image))))
    loss, grads = with_gradients(name, batch)
    found, moved = with_gradients(name, Batch(*(x[order] for x in batch[:-1]), batch.temperature))
    assert_same([found, *moved], [loss, *(None if grad is None else grad[order] for grad in grads)])


@pytest.mark.parametrize("name", ["token", "matched", "mgca"])
@given(batch=batches(), more=st.integers(1, 5), what=st.sampled_from((0.0, 1.0, -1e4, float("nan"), float("inf"))))
def test_padding_does_not_matter(name, batch, more, what):
    loss, grads = with_gradients(name, batch)
    hidden = ~batch.mask[..., None]
    longer = batch._replace(
        words=F.pad(batch.words.masked_fill(hidden, what), (0, 0, 0, more), value=what),
        context=F.pad(batch.context.masked_fill(hidden, what), (0, 0, 0, more), value=what),
        mask=F.pad(batch.mask, (0, more)),
    )
    found, others = with_gradients(name, longer)
    assert_same(
        [found, *(g if g is None else g[:, : x.shape[1]] for g, x in zip(others, _inputs(batch), strict=True))],
        [loss, *grads],
    )


def _inputs(batch: Batch) -> list[torch.Tensor]:
    return [x for i, x in enumerate(batch[:-1]) if i != 5]


@pytest.mark.parametrize("name", NAMES)
@given(batch=batches(), dtype=st.sampled_from(HALF))
def test_losses_and_gradients_are_finite_in_every_precision(name, batch, dtype):
    lower = Batch(*(x if x.dtype == torch.bool else x.to(dtype) for x in batch[:-1]), batch.temperature)
    loss, grads = with_gradients(name, lower)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert loss >= -1e-4
    for grad in grads:
        assert grad is None or (grad.dtype == dtype and grad.isfinite().all())


def slow_matched(slow, batch: Batch) -> torch.Tensor:
    """Contexts one token at a time, then both sides' contrast; without a word the contexts of patches are zero."""
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(batch.words)):
        words, patches = batch.words[i][batch.mask[i]], batch.patches[i]
        sides = []
        for tokens, others in ((words, patches), (patches, words)):
            found = [
                sum((w * o for w, o in zip((others @ t / batch.temperature).softmax(0), others, strict=True)), t * 0)
                for t in tokens
            ]
            context = torch.stack([F.normalize(c, dim=0) for c in found]) if found else tokens
            one = slow.token_loss(tokens[None], context[None], None, None, batch.temperature) if len(tokens) else 0
            sides.append(one)
        total = total + sum(sides) / 2
    return total / len(batch.words)


@pytest.mark.parametrize("name", NAMES)
@given(batch=batches())
def test_as_the_slow_formulas(slow, name, batch):
    t = batch.temperature
    parts = {
        "instance": lambda: slow.instance_loss(batch.image, batch.report, t),
        "token": lambda: slow.token_loss(batch.words, batch.context, None, batch.mask, t),
        "matched": lambda: slow_matched(slow, batch),
        "prototype": lambda: slow.prototype_loss(batch.image_scores, batch.report_scores, t, 0.05, 3),
    }
    expected = (
        parts["instance"]() + 0.5 * parts["matched"]() + 2 * parts["prototype"]() if name == "mgca" else parts[name]()
    )
    torch.testing.assert_close(compute(name, batch), torch.as_tensor(expected), rtol=1e-8, atol=1e-8)
