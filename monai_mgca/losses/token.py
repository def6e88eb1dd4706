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

from monai_mgca.utils.chunks import elements_at_once, slices
from monai_mgca.utils.precision import full_precision

__all__ = ["TokenAlignmentLoss"]

# Of very many tokens at least so many rows are held with all columns: products of fewer are slow.
ROWS = 64
# Below it exp(-2 / temperature) is no number in float32; in float64 temperatures of 0.003 are still fine.
FLOAT32_TEMPERATURE = 1 / 30


def check_temperature(temperature: float) -> float:
    """Refuse a temperature below which exponentials of cosines are no numbers in float64 either.

    Raises:
        ValueError: when it is below 0.003.
    """
    if temperature < 0.003:
        raise ValueError(f"temperature must be at least 0.003, got {temperature}.")
    return temperature


def row_blocks(length: int, device: torch.device) -> list[slice]:
    """The rows of a sample's similarities that are held at once: all of them where they are few."""
    return slices(length, max(ROWS, elements_at_once(device) // length))


class _WeightedTokenContrast(torch.autograd.Function):
    """Sum over the batch of the weighted symmetric cross-entropies of tokens and contexts.

    The gradients are those of softmax cross-entropy and are made beside the loss, some samples at a time or, of long
    ones, some rows: no (B, N, N) matrix is ever whole, and memory is linear in N. What makes it fast: rows and columns
    share one exponential, because a cosine over the temperature has a bound to subtract in place of the maximum; and
    both softmaxes are one product of rank 2 with it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        tokens: torch.Tensor,
        context: torch.Tensor,
        weights: torch.Tensor,
        real: torch.Tensor,
        temperature: float,
    ) -> torch.Tensor:
        """Arguments as those of :class:`TokenAlignmentLoss`; ``real`` is 1 on tokens that count, else 0."""
        count, length = tokens.shape[:2]
        elements, blocks = elements_at_once(tokens.device), row_blocks(length, tokens.device)
        needs_grad = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        total = tokens.new_zeros(())
        grads = (torch.zeros_like(tokens), torch.zeros_like(context)) if needs_grad else ()
        for part in slices(count, max(1, elements // length**2)):
            chunk = TokenContrast(tokens[part], context[part], weights[part], real[part], temperature)
            total += chunk.loss(blocks)
            if needs_grad:
                chunk.add_gradients(blocks, grads[0][part], grads[1][part])
        ctx.save_for_backward(*grads)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        token_grad, context_grad = ctx.saved_tensors
        return grad * token_grad, grad * context_grad, None, None, None


class TokenContrast:
    """Some samples of :class:`_WeightedTokenContrast`: their loss first, then their gradients."""

    def __init__(
        self,
        tokens: torch.Tensor,
        context: torch.Tensor,
        weights: torch.Tensor,
        real: torch.Tensor,
        temperature: float,
    ) -> None:
        # what padding holds must not count, whatever it is
        hidden = (real == 0)[:, :, None]
        self.tokens, self.context = tokens.masked_fill(hidden, 0), context.masked_fill(hidden, 0)
        self.weights, self.real, self.scale = weights, real, 1 / temperature
        self.exponentials: torch.Tensor | None = None

    def _exponentiate(self, rows: slice) -> torch.Tensor:
        """exp(cosine / temperature - its bound) of some rows with all columns."""
        bound = self.tokens.new_full((), -self.scale)
        columns = self.context.transpose(1, 2)
        return torch.baddbmm(bound, self.tokens[:, rows], columns, alpha=self.scale).exp_()

    def loss(self, blocks: list[slice]) -> torch.Tensor:
        """The loss, from one block of rows after the other."""
        real = self.real[:, :, None]
        row, column, matched = torch.empty_like(real), torch.zeros_like(real), torch.empty_like(self.real)
        for rows in blocks:
            self.exponentials = self._exponentiate(rows)
            torch.bmm(self.exponentials, real, out=row[:, rows])
            column.baddbmm_(self.exponentials.transpose(1, 2), real[:, rows])
            matched[:, rows] = self.exponentials.diagonal(offset=rows.start, dim1=1, dim2=2)
        tiny = torch.finfo(row.dtype).tiny  # of a sample of padding only, which has no weight
        self.row, self.column = (sums[:, :, 0].clamp_(min=tiny) for sums in (row, column))
        return (self.weights * ((self.row / matched).log() + (self.column / matched).log())).sum() / 2

    def add_gradients(self, blocks: list[slice], token_grad: torch.Tensor, context_grad: torch.Tensor) -> None:
        """Add the loss's gradients to those of tokens and context, after :meth:`loss` with the same blocks."""
        weights = self.weights * (self.scale / 2)
        left = torch.stack((weights / self.row, self.real), dim=2)
        right = torch.stack((self.real, weights / self.column), dim=1)
        for rows in blocks:
            # of several blocks only the last is still there
            grad = self.exponentials if len(blocks) == 1 else self._exponentiate(rows)
            grad *= torch.bmm(left[:, rows], right)
            grad.diagonal(offset=rows.start, dim1=1, dim2=2).sub_(2 * weights[:, rows])
            token_grad[:, rows].baddbmm_(grad, self.context)
            context_grad.baddbmm_(grad.transpose(1, 2), self.tokens[:, rows])


class TokenAlignmentLoss(_Loss):
    """Cross-attention-based token-wise alignment (CTA), one side: tokens against what they found in the other modality.

    Wang et al. "Multi-Granularity Cross-modal Alignment for Generalized Medical Visual Representation Learning",
    NeurIPS 2022, https://arxiv.org/abs/2210.06044. A token must fit its own cross-attended context better than those
    of the other tokens of the same sample, and the other way around; the mean of the two directions, weighted over
    the tokens of a sample, averaged over all samples of the batch.

    Computed in float32 at least, also under autocast. A sample without weight (a report of padding only) adds 0; a
    report of one word has nothing to be told from and adds 0. No gradient goes to ``weights``.

    Args:
        temperature: divides the cosines; the paper's tau2. Below 1/30 it is computed in float64.
        mask_padding: keep tokens outside ``mask`` out of the softmax and without weight. The official code does not
            (False), which makes padding a negative.

    Raises:
        ValueError: when ``temperature`` is below 0.003, or a shape does not fit.

    Example::

        loss = TokenAlignmentLoss()
        words = torch.nn.functional.normalize(torch.randn(8, 20, 128), dim=-1)
        found = torch.nn.functional.normalize(torch.randn(8, 20, 128), dim=-1)
        print(loss(words, found))
    """

    def __init__(self, temperature: float = 0.1, mask_padding: bool = True) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)
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
            dtype = tokens.dtype
            if weights is None:
                weights = tokens.new_ones(tokens.shape[:2]) if mask is None else mask.to(tokens.dtype)
                weights = weights / weights.sum(1, keepdim=True).clamp_min(1)
            elif mask is not None:
                weights = weights * mask
            if self.temperature < FLOAT32_TEMPERATURE:
                tokens, context = tokens.double(), context.double()
            weights = weights.detach().to(tokens.dtype)
            real = torch.ones_like(weights) if mask is None else mask.to(weights.dtype)
            total: torch.Tensor = _WeightedTokenContrast.apply(tokens, context, weights, real, self.temperature)
            return (total / len(tokens)).to(dtype)
