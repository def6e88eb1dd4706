# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Reads the attention of somebody else's network, whose fused kernels do not return it: one row of the last layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from monai_mgca.utils.precision import full_precision

__all__ = ["LastAttention"]


class LastAttention(TorchFunctionMode):
    """While it is entered, it holds the queries and keys of the last attention that any network computes.

    It sees the calls of ``scaled_dot_product_attention``, of ``nn.MultiheadAttention`` with weights and, for networks
    that multiply by themselves, of a softmax over (B, heads, N, N) scores. Nothing is computed until :meth:`first_row`
    is called: all layers keep their fused kernels, and no other layer's attention is held.

    Example::

        network = torch.nn.MultiheadAttention(8, num_heads=2, batch_first=True)
        image = torch.rand(1, 5, 8)
        with LastAttention() as seen:
            network(image, image, image)
        print(seen.first_row().shape)  # torch.Size([1, 5])
    """

    def __init__(self) -> None:
        super().__init__()
        self._rows: Callable[[torch.Tensor | None], torch.Tensor] | None = None

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function as it would be without this, and hold what an attention is made of."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            self._rows = _of_product(*args, **kwargs)
        elif func is F.multi_head_attention_forward and output[1] is not None:
            self._rows = _of_weights(output[1].detach())
        elif getattr(func, "__name__", "") == "softmax" and output.ndim == 4 and output.shape[-2] == output.shape[-1]:
            scores = (args[0] if args else kwargs["input"]).detach()
            self._rows = _of_scores(scores)
        return output

    @torch.no_grad()
    def first_row(self) -> torch.Tensor:
        """The attention of the first query, of a [CLS] or of a pooling query, averaged over the heads.

        Returns:
            (B, N), rows sum to 1, float32 at least.

        Raises:
            RuntimeError: when no attention was computed.
        """
        return self._take(None)

    @torch.no_grad()
    def mean_row(self, mask: torch.Tensor) -> torch.Tensor:
        """The attention of the mean of all queries, for a network without a [CLS], averaged over the heads.

        Args:
            mask: (B, N), nonzero on tokens that are not padding.

        Returns:
            (B, N), rows sum to 1, float32 at least.

        Raises:
            RuntimeError: when no attention was computed.
        """
        return self._take(mask)

    def _take(self, mask: torch.Tensor | None) -> torch.Tensor:
        if self._rows is None:
            raise RuntimeError("No attention was computed: enter this around the call of a network that has one.")
        row, self._rows = self._rows(mask), None
        return row.to(torch.promote_types(row.dtype, torch.float32))


def _mean(rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of rows (B, ..., N, C) that are not padding: (B, ..., 1, C)."""
    share = mask.to(rows.dtype).reshape(len(mask), *[1] * (rows.ndim - 3), -1, 1)
    kept = rows.masked_fill(share == 0, 0)  # what no query sees is minus infinity there, or not a number
    return kept.sum(-2, keepdim=True) / share.sum(-2, keepdim=True).clamp_min(1)


def _seen(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Scores (B, heads, 1, N) less those of padding, as probabilities (B, N)."""
    scores = scores.masked_fill(mask[:, None, None] == 0, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1).mean(dim=1)[:, 0]


def _of_weights(weights: torch.Tensor) -> Callable[[torch.Tensor | None], torch.Tensor]:
    """Of probabilities alone the mean is taken in place of that of queries."""

    def row(mask: torch.Tensor | None) -> torch.Tensor:
        rows = weights if weights.ndim == 3 else weights.mean(dim=1)
        return rows[:, 0] if mask is None else _mean(rows, mask)[:, 0]

    return row


def _of_scores(scores: torch.Tensor) -> Callable[[torch.Tensor | None], torch.Tensor]:
    def row(mask: torch.Tensor | None) -> torch.Tensor:
        some = scores[:, :, :1] if mask is None else scores
        with full_precision(some, some) as (rows, _):
            if mask is None:
                return rows.softmax(dim=-1).mean(dim=1)[:, 0]
            return _seen(_mean(rows, mask), mask)  # scores are linear in the query

    return row


def _of_product(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Callable[[torch.Tensor | None], torch.Tensor]:
    queries, keys = query.detach(), key.detach()
    visible = None if attn_mask is None else attn_mask.detach()[..., :1, :]

    def row(mask: torch.Tensor | None) -> torch.Tensor:
        with full_precision(queries[..., :1, :] if mask is None else queries, keys) as (some, all_):
            if enable_gqa:  # several heads of queries share one of keys
                all_ = all_.repeat_interleave(some.shape[1] // all_.shape[1], dim=1)
            one = some if mask is None else _mean(some, mask)
            scores = one @ all_.transpose(-2, -1) * (one.shape[-1] ** -0.5 if scale is None else scale)
            if mask is not None:
                return _seen(scores, mask)
            if is_causal:
                scores[..., 1:] = torch.finfo(scores.dtype).min
            if visible is not None and visible.dtype == torch.bool:
                scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
            elif visible is not None:
                scores = scores + visible
            return scores.softmax(dim=-1).mean(dim=1)[:, 0]

    return row
