# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""The alignment losses and the word aggregation as they are written down: one sample and one token at a time.

Nobody trains so. The losses are here to check values; to compare times with, take those of vectorized.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn.functional import normalize

__all__ = ["plain_aggregate", "plain_alignment", "plain_weights"]


def _cross_entropy(scores: torch.Tensor, target: int) -> torch.Tensor:
    return scores.logsumexp(0) - scores[target]


def plain_weights(attention: torch.Tensor) -> torch.Tensor:
    """Positive entries clipped to the row's own 10 % and 90 % quantiles, the row divided by its sum."""
    rows = []
    for row in attention:
        positive = row[row > 0]
        new = torch.zeros_like(row)
        if len(positive):
            new[row > 0] = positive.clamp(positive.quantile(0.1), positive.quantile(0.9))
            new = new / new.sum()
        rows.append(new)
    return torch.stack(rows)


def _sinkhorn(scores: torch.Tensor, epsilon: float, iterations: int) -> torch.Tensor:
    codes = torch.exp((scores - scores.max()) / epsilon)
    rows, columns = codes.shape
    for _ in range(iterations):
        codes = torch.stack([column / column.sum() / columns for column in codes.T], dim=1)
        codes = torch.stack([row / row.sum() / rows for row in codes])
    return torch.stack([row / row.sum() for row in codes])


def _tokens_of_one(
    tokens: torch.Tensor, others: torch.Tensor, weights: torch.Tensor, temperature: float
) -> torch.Tensor:
    """One side of the token-wise alignment of one pair; all tokens are real."""
    found = []
    for token in tokens:
        share = (others @ token / temperature).softmax(0)
        found.append(normalize(share @ others, dim=0))
    context, total = torch.stack(found), tokens.new_zeros(())
    for place in range(len(tokens)):
        there = _cross_entropy(context @ tokens[place] / temperature, place)
        back = _cross_entropy(tokens @ context[place] / temperature, place)
        total = total + weights[place] * (there + back) / 2
    return total


def plain_alignment(
    inputs: Mapping[str, torch.Tensor], temperatures: tuple[float, float, float] = (0.07, 0.1, 0.2)
) -> torch.Tensor:
    """The sum of the three alignments.

    Args:
        inputs: "image", "report" (B, D), "patches" (B, P, D), "words" (B, W, D), "prototypes" (K, D), all unit
            vectors; "mask" (B, W) bool; "patch_attention" (B, P) and "word_attention" (B, W).
        temperatures: of the instance, token and prototype term.
    """
    image, report, mask = inputs["image"], inputs["report"], inputs["mask"]
    count, instance, token = len(image), image.new_zeros(()), image.new_zeros(())
    for i in range(count):
        instance = instance + _cross_entropy(report @ image[i] / temperatures[0], i)
        instance = instance + _cross_entropy(image @ report[i] / temperatures[0], i)
    word_weights, patch_weights = (plain_weights(inputs[key]) for key in ("word_attention", "patch_attention"))
    for i in range(count):
        words, patches = inputs["words"][i][mask[i]], inputs["patches"][i]
        token = token + _tokens_of_one(words, patches, word_weights[i][mask[i]], temperatures[1]) / 2
        token = token + _tokens_of_one(patches, words, patch_weights[i], temperatures[1]) / 2
    scores = image @ inputs["prototypes"].T, report @ inputs["prototypes"].T
    image_codes, report_codes = (_sinkhorn(x.detach(), 0.05, 3) for x in scores)
    prototype = image.new_zeros(())
    for i in range(count):
        prototype = prototype - (report_codes[i] * (scores[0][i] / temperatures[2]).log_softmax(0)).sum()
        prototype = prototype - (image_codes[i] * (scores[1][i] / temperatures[2]).log_softmax(0)).sum()
    return (instance / 2 + token + prototype / 2) / count


def plain_aggregate(
    pieces: torch.Tensor, attention: torch.Tensor, word_ids: torch.Tensor, words: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of the word pieces (B, W, C) and of the attention (B, W), walking over each report as far as it goes."""
    states, weights = [], []
    for numbers, row, share in zip(word_ids.tolist(), pieces, attention, strict=True):
        end = max((place for place, word in enumerate(numbers) if word >= 0), default=0) + 1
        found: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        for word, state, weight in zip(numbers[:end], row[:end], share[:end], strict=True):
            if 0 <= word < words:
                before = found.get(word)
                found[word] = (state, weight) if before is None else (before[0] + state, before[1] + weight)
        empty = row.new_zeros(row.shape[1]), share.new_zeros(())
        slots = [found.get(word, empty) for word in range(words)]
        states.append(torch.stack([slot[0] for slot in slots]))
        weights.append(torch.stack([slot[1] for slot in slots]))
    return torch.stack(states), torch.stack(weights)
