# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The cross-attention of CTA: what each token of one side finds among those of the other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from monai_mgca.utils.precision import full_precision

__all__ = ["AttentionMatcher", "attention_to_weights", "soft_match"]


def _open_empty(key_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention over no key at all is NaN: open all keys of such rows, and return which rows had one."""
    filled = key_mask.any(dim=1, keepdim=True)
    return key_mask | ~filled, filled[:, :, None]


def soft_match(
    queries: torch.Tensor,
    keys: torch.Tensor,
    temperature: float = 0.1,
    key_mask: torch.Tensor | None = None,
    normalize: bool = True,
) -> torch.Tensor:
    """For every query the mixture of the keys that resembles it: softmax(cosine / temperature) @ keys.

    The matcher "similarity" of MGCA, without parameters. In float32 at least, also under autocast.

    Args:
        queries: (B, N, D) unit vectors.
        keys: (B, M, D) unit vectors.
        temperature: divides the cosines.
        key_mask: (B, M) bool, True on keys that are not padding. A sample without any gets zeros.
        normalize: scale the mixtures to unit length.

    Returns:
        (B, N, D) contexts.

    Example::

        words, patches = torch.randn(2, 20, 128), torch.randn(2, 196, 128)
        print(soft_match(F.normalize(words, dim=-1), F.normalize(patches, dim=-1)).shape)
    """
    with full_precision(queries, keys) as (queries, keys):
        mask = filled = None
        if key_mask is not None:
            opened, filled = _open_empty(key_mask)
            mask = opened[:, None, None]
        # of one head; the fused kernels never hold the (B, N, M) attention
        tokens = (queries[:, None], keys[:, None], keys[:, None])
        context = F.scaled_dot_product_attention(*tokens, attn_mask=mask, scale=1 / temperature)[:, 0]
        if filled is not None:
            context = context.masked_fill(~filled, 0)
        return F.normalize(context, dim=2) if normalize else context


class AttentionMatcher(nn.Module):
    """The matcher "learned" of MGCA: cross-attention with learned query, key, value and output maps.

    Args:
        embed_dim: D, size of the tokens.
        num_heads: heads of the attention; the paper has one.

    Raises:
        ValueError: when ``embed_dim`` is not a multiple of ``num_heads``.
    """

    def __init__(self, embed_dim: int, num_heads: int = 1) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim {embed_dim} must be a multiple of num_heads {num_heads}.")
        self.attention = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)

    def forward(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        key_mask: torch.Tensor | None = None,
        normalize: bool = True,
    ) -> torch.Tensor:
        """Arguments and result as those of :func:`soft_match`."""
        if key_mask is None:
            context, _ = self.attention(queries, keys, keys, need_weights=False)
        else:
            key_mask, filled = _open_empty(key_mask)
            context, _ = self.attention(queries, keys, keys, key_padding_mask=~key_mask, need_weights=False)
            context = context.masked_fill(~filled, 0)
        if normalize:
            context = F.normalize(context.to(torch.promote_types(context.dtype, torch.float32)), dim=-1)
        return context


@torch.no_grad()
def attention_to_weights(attention: torch.Tensor, quantile: float = 0.1) -> torch.Tensor:
    """Turn [CLS] attention into token weights: clip each row to its own quantiles and scale it to sum 1.

    Only the positive entries of a row count: they are clipped to the row's ``quantile`` and ``1 - quantile`` (linear
    interpolation), the rest stays 0. A row with one positive entry gives it weight 1, a row with none stays 0.

    Args:
        attention: (B, N), not negative; 0 where there is no token.
        quantile: between 0 and 0.5.

    Returns:
        (B, N) weights, float32 at least.

    Raises:
        ValueError: when ``quantile`` is outside [0, 0.5] or ``attention`` is not (B, N).

    Example::

        print(attention_to_weights(torch.tensor([[0.5, 0.3, 0.2, 0.0]])))
    """
    if not 0 <= quantile <= 0.5:
        raise ValueError(f"quantile must be in [0, 0.5], got {quantile}.")
    if attention.ndim != 2:
        raise ValueError(f"attention must be (B, N), got {tuple(attention.shape)}.")
    attention = attention.to(torch.promote_types(attention.dtype, torch.float32))
    positive = attention > 0
    last = positive.sum(1, keepdim=True).sub(1).clamp_min(0)
    ordered = attention.masked_fill(~positive, torch.inf).sort(dim=1).values

    def at(fraction: float) -> torch.Tensor:
        position = last * torch.tensor(fraction, dtype=attention.dtype, device=attention.device)
        low = position.floor()
        start = ordered.gather(1, low.long())
        return torch.lerp(start, ordered.gather(1, position.ceil().long()), position - low)

    # a row without positive entries has infinite quantiles, and nothing that they apply to
    clipped = torch.where(positive, attention.clamp(at(quantile), at(1 - quantile)), 0)
    return clipped / clipped.sum(1, keepdim=True).clamp_min(torch.finfo(attention.dtype).tiny)
