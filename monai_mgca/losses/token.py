# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.modules.loss import _Loss

from monai_mgca.utils.precision import full_precision

__all__ = ["TokenAlignmentLoss"]

# Similarities held at once: 8 MiB in float32, which stays in cache on a CPU and is nothing on a GPU.
CHUNK_ELEMENTS = 2**21
# Far below every similarity, and finite: what is weighted with 0 must not become NaN.
HIDDEN = -1e30


class _WeightedTokenContrast(torch.autograd.Function):
    """Sum over the batch of the weighted symmetric cross-entropies of tokens and contexts.

    The gradients are those of softmax cross-entropy and are made beside the loss, a few samples at a time, so that no
    (B, N, N) matrix outlives its chunk. Only two (B, N, D) tensors are kept for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        tokens: torch.Tensor,
        context: torch.Tensor,
        weights: torch.Tensor,
        mask: torch.Tensor | None,
        temperature: float,
    ) -> torch.Tensor:
        """Arguments as those of :class:`TokenAlignmentLoss`, in full precision; the sum is not yet divided by B."""
        count, length = tokens.shape[:2]
        chunk = max(1, CHUNK_ELEMENTS // length**2)
        needs_grad = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        total = tokens.new_zeros(())
        grads = (torch.empty_like(tokens), torch.empty_like(context)) if needs_grad else ()
        for start in range(0, count, chunk):
            part = slice(start, start + chunk)
            token, other, weight = tokens[part], context[part], weights[part]
            scores = torch.bmm(token / temperature, other.transpose(1, 2))
            matched = scores.diagonal(dim1=1, dim2=2).clone()
            if mask is not None:
                hidden = ~mask[part]
                # a padding row hides itself from the columns' softmax, a padding column from the rows'
                scores.masked_fill_(hidden[:, :, None] | hidden[:, None, :], HIDDEN)
            rows, columns = scores.logsumexp(2), scores.logsumexp(1)
            total += (weight * (rows + columns - 2 * matched)).sum() / 2
            if needs_grad:
                grad = torch.exp(scores - rows[:, :, None]).mul_(weight[:, :, None])
                grad += scores.sub_(columns[:, None, :]).exp_().mul_(weight[:, None, :])
                grad.diagonal(dim1=1, dim2=2).sub_(2 * weight)
                grad *= 0.5 / temperature
                torch.bmm(grad, other, out=grads[0][part])
                torch.bmm(grad.transpose(1, 2), token, out=grads[1][part])
        ctx.save_for_backward(*grads)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        token_grad, context_grad = ctx.saved_tensors
        return grad * token_grad, grad * context_grad, None, None, None


class TokenAlignmentLoss(_Loss):
    """Cross-attention-based token-wise alignment (CTA), one side: tokens against what they found in the other modality.

    Wang et al. "Multi-Granularity Cross-modal Alignment for Generalized Medical Visual Representation Learning",
    NeurIPS 2022, https://arxiv.org/abs/2210.06044. A token must fit its own cross-attended context better than those
    of the other tokens of the same sample, and the other way around; the mean of the two directions, weighted over
    the tokens of a sample, averaged over all samples of the batch.

    Computed in float32 at least, also under autocast. A sample without weight (a report of padding only) adds 0; a
    report of one word has nothing to be told from and adds 0. No gradient goes to ``weights``.

    Args:
        temperature: divides the cosines; the paper's tau2.
        mask_padding: keep tokens outside ``mask`` out of the softmax and without weight. The official code does not
            (False), which makes padding a negative.

    Raises:
        ValueError: when ``temperature`` is not positive, or a shape does not fit.

    Example::

        loss = TokenAlignmentLoss()
        words = torch.nn.functional.normalize(torch.randn(8, 20, 128), dim=-1)
        found = torch.nn.functional.normalize(torch.randn(8, 20, 128), dim=-1)
        print(loss(words, found))
    """

    def __init__(self, temperature: float = 0.1, mask_padding: bool = True) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}.")
        self.temperature = temperature
        self.mask_padding = mask_padding

    def forward(
        self,
        tokens: torch.Tensor,
        context: torch.Tensor,
        weights: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Args:
            tokens: (B, N, D) unit vectors of words or image patches.
            context: (B, N, D), for every token its attended mixture of the other modality's tokens, unit vectors.
            weights: (B, N), rows sum to 1; uniform over the tokens of ``mask`` if None.
            mask: (B, N) bool, True on tokens that are not padding; all True if None.

        Returns:
            The loss, a scalar.
        """
        if tokens.ndim != 3 or tokens.shape != context.shape:
            raise ValueError(
                f"tokens and context must both be (B, N, D), got {tuple(tokens.shape)}, {tuple(context.shape)}."
            )
        for name, value in (("weights", weights), ("mask", mask)):
            if value is not None and value.shape != tokens.shape[:2]:
                raise ValueError(f"{name} must be {tuple(tokens.shape[:2])}, got {tuple(value.shape)}.")
        mask = mask.bool() if mask is not None and self.mask_padding else None
        with full_precision(tokens, context) as (tokens, context):
            if weights is None:
                weights = tokens.new_ones(tokens.shape[:2]) if mask is None else mask.to(tokens.dtype)
                weights = weights / weights.sum(1, keepdim=True).clamp_min(1)
            elif mask is not None:
                weights = weights * mask
            weights = weights.detach().to(tokens.dtype)
            total: torch.Tensor = _WeightedTokenContrast.apply(tokens, context, weights, mask, self.temperature)
            return total / len(tokens)
