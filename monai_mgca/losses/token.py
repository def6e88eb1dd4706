# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""CTA: the contrast of each token with what it attends to on the other side."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.modules.loss import _Loss

from monai_mgca.utils.chunks import elements_at_once, parts, slices
from monai_mgca.utils.precision import full_precision

__all__ = ["TokenAlignmentLoss"]

# Of very many tokens at least so many rows are held with all columns: products of fewer are slow.
ROWS = 64
# Below it exponentials of a cosine over it, squared, are no numbers in float32; in float64 those of 0.003 still are.
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


def exponentials(rows: torch.Tensor, columns: torch.Tensor, scale: float) -> torch.Tensor:
    """exp(scale * cosine) of unit vectors (B, N, D) and (B, M, D): no maximum need be subtracted from a cosine."""
    found = rows.new_empty((len(rows), rows.shape[1], columns.shape[1]))
    return found.baddbmm_(rows, columns.transpose(1, 2), beta=0, alpha=scale).exp_()


def hide(tokens: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Zero where there is padding: what it holds must not count, whatever it is."""
    return tokens if mask is None else tokens.masked_fill(~mask[:, :, None], 0)


class _WeightedTokenContrast(torch.autograd.Function):
    """Sum over the batch of the weighted symmetric cross-entropies of tokens and contexts.

    The gradients are those of softmax cross-entropy and are made beside the loss, some samples at a time or, of long
    ones, some rows: no (B, N, N) matrix is ever whole, and memory is linear in N.
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
        """Arguments as those of :class:`TokenAlignmentLoss`."""
        samples = max(1, elements_at_once(tokens.device) // tokens.shape[1] ** 2)
        needs_grad = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        total = tokens.new_zeros(())
        grads = (torch.zeros_like(tokens), torch.zeros_like(context)) if needs_grad else ()
        for *place, real in parts(mask, len(tokens), samples):
            at = tuple(place)
            chunk = TokenContrast(hide(tokens[at], real), hide(context[at], real), weights[at], real, temperature)
            total += chunk.loss()
            if needs_grad:
                grads[0][at], grads[1][at] = chunk.gradients()
        ctx.save_for_backward(*grads)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        token_grad, context_grad = ctx.saved_tensors
        return grad * token_grad, grad * context_grad, None, None, None


class TokenContrast:
    """Some samples of :class:`_WeightedTokenContrast`: their loss first, then their gradients.

    What makes it fast: rows and columns share one exponential, because a cosine over the temperature has a bound and
    needs no maximum subtracted; and the gradients of both softmaxes are one product with it.

    Args:
        tokens: (n, N, D) unit vectors, finite also where ``mask`` is False.
        context: (n, N, D), the same.
        weights: (n, N), 0 where ``mask`` is False.
        mask: (n, N) bool, True on tokens that are not padding; None where none is.
        temperature: divides the cosines.
    """

    def __init__(
        self,
        tokens: torch.Tensor,
        context: torch.Tensor,
        weights: torch.Tensor,
        mask: torch.Tensor | None,
        temperature: float,
    ) -> None:
        self.tokens, self.context, self.weights, self.scale = tokens, context, weights, 1 / temperature
        self.real = None if mask is None else mask.to(tokens.dtype)
        self.blocks = row_blocks(tokens.shape[1], tokens.device)
        self.exponentials = self.row = self.column = tokens  # until the loss has been made

    def _exponentiate(self, rows: slice) -> torch.Tensor:
        """exp(cosine / temperature) of some rows with all columns; padding is alone with itself."""
        found = exponentials(self.tokens[:, rows], self.context, self.scale)
        if self.real is not None:
            pairs = self.real[:, rows, None] * self.real[:, None]
            pairs.diagonal(offset=rows.start, dim1=1, dim2=2).fill_(1)
            found *= pairs
        return found

    def loss(self) -> torch.Tensor:
        """The loss, from one block of rows after the other."""
        self.row, matched = (torch.empty_like(self.tokens[:, :, 0]) for _ in range(2))
        self.column = torch.zeros_like(matched)
        for rows in self.blocks:
            self.exponentials = self._exponentiate(rows)
            self.row[:, rows] = self.exponentials.sum(2)
            self.column += self.exponentials.sum(1)
            matched[:, rows] = self.exponentials.diagonal(offset=rows.start, dim1=1, dim2=2)
        return (self.weights * ((self.row / matched).log() + (self.column / matched).log())).sum() / 2

    def gradients(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss's gradients with respect to tokens and context, after :meth:`loss`."""
        weights = self.weights * (self.scale / 2)
        by_row, by_column = (weights / self.row)[:, :, None], (weights / self.column)[:, None]
        token_grad, context_grad = torch.empty_like(self.tokens), torch.empty_like(self.context)
        for number, rows in enumerate(self.blocks):
            # of several blocks only the last is still there
            grad = self.exponentials if len(self.blocks) == 1 else self._exponentiate(rows)
            grad *= by_row[:, rows] + by_column
            grad.diagonal(offset=rows.start, dim1=1, dim2=2).sub_(2 * weights[:, rows])
            torch.bmm(grad, self.context, out=token_grad[:, rows])
            context_grad.baddbmm_(grad.transpose(1, 2), self.tokens[:, rows], beta=min(number, 1))
        return token_grad, context_grad


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
            total: torch.Tensor = _WeightedTokenContrast.apply(tokens, context, weights, mask, self.temperature)
            return (total / len(tokens)).to(dtype)
