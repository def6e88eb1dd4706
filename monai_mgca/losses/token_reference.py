# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The formulas of the token losses, plainly: to be read, and to test the fast ones; not for training."""

from __future__ import annotations

import torch
import torch.nn.functional as F

__all__ = ["matched_token_reference", "soft_match_reference", "token_contrast_reference"]


def token_contrast_reference(
    tokens: torch.Tensor,
    context: torch.Tensor,
    weights: torch.Tensor,
    mask: torch.Tensor | None = None,
    temperature: float = 0.1,
) -> torch.Tensor:
    """The weighted symmetric cross-entropy of each token with its own context among those of the sample, eq. 6 and 7.

    Args:
        tokens: (B, N, D) unit vectors of words or patches.
        context: (B, N, D) unit vectors, what each token attends to in the other modality.
        weights: (B, N), 0 where ``mask`` is False.
        mask: (B, N) bool, True on tokens that are not padding; all if None.
        temperature: divides the cosines; the paper's tau2.

    Returns:
        The mean over the samples of both directions' mean.

    Example::

        unit = lambda *shape: F.normalize(torch.randn(*shape), dim=-1)
        print(token_contrast_reference(unit(8, 20, 128), unit(8, 20, 128), torch.full((8, 20), 1 / 20)))
    """
    scores = tokens @ context.transpose(1, 2) / temperature
    if mask is not None:  # a token of padding has weight 0, and meets nobody but itself
        pairs = mask[:, :, None] & mask[:, None] | torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        scores = scores.masked_fill(~pairs, -torch.inf)
    to_context, to_token = (scores.log_softmax(dim).diagonal(dim1=1, dim2=2) for dim in (2, 1))
    return -(weights * (to_context + to_token)).sum() / (2 * len(tokens))


def soft_match_reference(
    queries: torch.Tensor, keys: torch.Tensor, mask: torch.Tensor | None = None, temperature: float = 0.1
) -> torch.Tensor:
    """For every query its mixture of the keys by similarity, of unit length, eq. 5.

    Args:
        queries: (B, N, D) unit vectors.
        keys: (B, M, D) unit vectors.
        mask: (B, M) bool, True on keys that are not padding; all if None.
        temperature: divides the cosines.
    """
    scores = queries @ keys.transpose(1, 2) / temperature
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None], -torch.inf)
    return F.normalize(scores.softmax(2) @ keys, dim=2)


def matched_token_reference(
    words: torch.Tensor,
    patches: torch.Tensor,
    word_weights: torch.Tensor,
    patch_weights: torch.Tensor,
    word_mask: torch.Tensor | None = None,
    temperature: float = 0.1,
) -> torch.Tensor:
    """The mean of both sides of the token alignment, each token's context found by similarity.

    Args:
        words: (B, W, D) unit vectors.
        patches: (B, P, D) unit vectors.
        word_weights: (B, W), rows sum to 1, 0 where ``word_mask`` is False.
        patch_weights: (B, P), rows sum to 1.
        word_mask: (B, W) bool, True on words that are not padding; all if None.
        temperature: divides the cosines, in the matching and in the contrast.
    """
    found = soft_match_reference(words, patches, None, temperature)
    by_word = token_contrast_reference(words, found, word_weights, word_mask, temperature)
    found = soft_match_reference(patches, words, word_mask, temperature)
    return (by_word + token_contrast_reference(patches, found, patch_weights, None, temperature)) / 2
