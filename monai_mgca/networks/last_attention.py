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
        self._row: Callable[[], torch.Tensor] | None = None

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function as it would be without this, and hold what an attention is made of."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            self._row = _of_product(*args, **kwargs)
        elif func is F.multi_head_attention_forward and output[1] is not None:
            weights = output[1].detach()
            self._row = lambda: weights if weights.ndim == 3 else weights.mean(dim=1)
        elif getattr(func, "__name__", "") == "softmax" and output.ndim == 4 and output.shape[-2] == output.shape[-1]:
            scores = output.detach()
            self._row = lambda: scores.mean(dim=1)
        return output

    @torch.no_grad()
    def first_row(self) -> torch.Tensor:
        """The attention of the first query, of a [CLS] or of a pooling query, averaged over the heads.

        Returns:
            (B, N), rows sum to 1, float32 at least.

        Raises:
            RuntimeError: when no attention was computed.
        """
        if self._row is None:
            raise RuntimeError("No attention was computed: enter this around the call of a network that has one.")
        row, self._row = self._row(), None
        return row[:, 0].to(torch.promote_types(row.dtype, torch.float32))


def _of_product(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Callable[[], torch.Tensor]:
    first, keys = query[..., :1, :].detach(), key.detach()
    visible = None if attn_mask is None else attn_mask.detach()[..., :1, :]

    def row() -> torch.Tensor:
        with full_precision(first, keys) as (one, all_):
            scores = one @ all_.transpose(-2, -1) * (one.shape[-1] ** -0.5 if scale is None else scale)
            if visible is not None and visible.dtype == torch.bool:
                scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
            elif visible is not None:
                scores = scores + visible
            return scores.softmax(dim=-1).mean(dim=1)

    return row
