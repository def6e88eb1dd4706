# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""The alignment losses in vectorized form: whole batches, reports at their full padded length, matrices in memory.

Written from the formulas. With ``official`` as the official code has them: sums where the paper has means, padding
among the negatives of the words, a ViT's image contexts not scaled to unit length, which is less work. Else with the
paper's values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch.nn.functional import normalize

from monai_mgca.networks import attention_to_weights
from monai_mgca.utils.chunks import elements_at_once, slices

__all__ = ["one_hot_aggregate", "own_products", "vectorized_alignment"]


def _both_ways(scores: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropies of rows and of columns with the diagonal (B, N, N), weighted; their sum over all samples."""
    found = scores.log_softmax(2) + scores.log_softmax(1)
    return -(weights * found.diagonal(dim1=1, dim2=2)).sum()


def _tokens(inputs: Mapping[str, torch.Tensor], temperature: float, official: bool) -> torch.Tensor:
    words, patches, mask = inputs["words"], inputs["patches"], inputs["mask"]
    weights = [attention_to_weights(inputs[key]) for key in ("word_attention", "patch_attention")]
    attention = (words @ patches.transpose(1, 2) / temperature).softmax(2)
    context = normalize(attention @ patches, dim=2)
    scores = words @ context.transpose(1, 2) / temperature
    if not official:
        scores = scores.masked_fill(~(mask[:, :, None] & mask[:, None]), -1e4)
    of_words = _both_ways(scores, weights[0])
    scores = (patches @ words.transpose(1, 2) / temperature).masked_fill(~mask[:, None], -torch.inf)
    context = scores.softmax(2) @ words
    context = context if official else normalize(context, dim=2)
    of_patches = _both_ways(patches @ context.transpose(1, 2) / temperature, weights[1])
    return (of_words + of_patches) / (2 if official else 4) / len(words)


@torch.no_grad()
def _sinkhorn(scores: torch.Tensor, epsilon: float, iterations: int) -> torch.Tensor:
    codes = torch.exp(scores / epsilon)
    codes /= codes.sum()
    for _ in range(iterations):
        codes /= codes.sum(0, keepdim=True) * codes.shape[1]
        codes /= codes.sum(1, keepdim=True) * codes.shape[0]
    return codes / codes.sum(1, keepdim=True)


def vectorized_alignment(
    inputs: Mapping[str, torch.Tensor],
    official: bool,
    temperatures: tuple[float, float, float] = (0.07, 0.1, 0.2),
) -> torch.Tensor:
    """The sum of the three alignments; arguments as those of ``plain_alignment``."""
    image, report = inputs["image"], inputs["report"]
    pairs = image @ report.T / temperatures[0]
    instance = -(pairs.log_softmax(0) + pairs.log_softmax(1)).diagonal().mean()
    scores = [x @ inputs["prototypes"].T for x in (image, report)]
    codes = [_sinkhorn(x, 0.05, 3) for x in scores]
    logs = [(x / temperatures[2]).log_softmax(1) for x in scores]
    prototype = -(codes[1] * logs[0] + codes[0] * logs[1]).sum() / (2 * len(image))
    return (instance if official else instance / 2) + _tokens(inputs, temperatures[1], official) + prototype


def own_products(inputs: Mapping[str, torch.Tensor]) -> Callable[[], None]:
    """The matrix products alone that ``MatchedTokenLoss`` makes, forward and backward: the floor of its way."""
    words, patches = (inputs[name].detach() for name in ("words", "patches"))
    lengths = inputs["mask"].sum(1).tolist()
    samples = max(1, elements_at_once(words.device) // max(words.shape[1], patches.shape[1]) ** 2)

    def run() -> None:
        for part in slices(len(words), samples):
            word, patch = words[part, : max(lengths[part])], patches[part]
            pairs = torch.bmm(word, patch.transpose(1, 2))
            grads = []
            # contexts take the place of their own gradients: the shapes are the same
            found = torch.bmm(pairs, patch), torch.bmm(pairs.transpose(1, 2), word)
            for tokens, context in zip((word, patch), found, strict=True):
                cosines = torch.bmm(tokens, context.transpose(1, 2))
                torch.bmm(cosines.transpose(1, 2), tokens)
                grads.append(torch.bmm(cosines, context))
            scores = torch.bmm(found[0], patch.transpose(1, 2)).baddbmm_(word, found[1].transpose(1, 2))
            grads[0].baddbmm_(scores, patch).baddbmm_(pairs, found[1])
            grads[1].baddbmm_(scores.transpose(1, 2), word).baddbmm_(pairs.transpose(1, 2), found[0])

    return run


def one_hot_aggregate(
    pieces: torch.Tensor, attention: torch.Tensor, word_ids: torch.Tensor, words: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of the word pieces (B, W, C) and of the attention (B, W), by a product with a matrix of ones and zeros."""
    share = (word_ids[:, None] == torch.arange(words, device=word_ids.device)[:, None]).to(pieces.dtype)
    return share @ pieces, (share @ attention[:, :, None])[:, :, 0]
