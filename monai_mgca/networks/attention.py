# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The attention of [CLS] to all tokens, which the fused kernels do not return."""

from __future__ import annotations

import torch

from monai_mgca.utils.precision import full_precision

__all__ = ["cls_attention", "cls_scores"]


def cls_scores(query: torch.Tensor, key: torch.Tensor, num_heads: int) -> torch.Tensor:
    """(B, heads, N) scores of the first token, before the softmax; arguments as those of :func:`cls_attention`."""
    query, key = query.unflatten(2, [num_heads, -1]), key.unflatten(2, [num_heads, -1])
    return torch.einsum("bhd,bnhd->bhn", query[:, 0], key) * query.shape[-1] ** -0.5


@torch.no_grad()
def cls_attention(
    query: torch.Tensor, key: torch.Tensor, num_heads: int, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """The first token's self-attention, averaged over the heads: one row instead of the whole matrix.

    Fused attention does not give its probabilities; this row costs one matrix-vector product a head. It becomes the
    weight of tokens, through which no gradient flows.

    Args:
        query: (B, 1, C) the first token's queries, all heads side by side.
        key: (B, N, C) the keys of all tokens.
        num_heads: heads that C is made of.
        mask: (B, N), nonzero on tokens that are not padding.

    Returns:
        (B, N), rows sum to 1, float32 at least.
    """
    with full_precision(query, key) as (query, key):
        scores = cls_scores(query, key, num_heads)
        if mask is not None:
            scores = scores.masked_fill(mask[:, None] == 0, torch.finfo(scores.dtype).min)
        return scores.softmax(dim=-1).mean(dim=1)
