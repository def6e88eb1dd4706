# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""CTA: the contrast of each token with what it attends to on the other side."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.modules.loss import _Loss

from monai_mgca.losses.token_contrast import FLOAT32_TEMPERATURE, check_temperature, hide, token_contrast
from monai_mgca.utils.chunks import elements_at_once, parts
from monai_mgca.utils.precision import full_precision

__all__ = ["TokenAlignmentLoss"]


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
        grads: tuple[torch.Tensor, ...] = (torch.zeros_like(tokens), torch.zeros_like(context)) if needs_grad else ()
        for *place, real in parts(mask, len(tokens), samples):
            at = tuple(place)
            hidden = hide(tokens[at], real), hide(context[at], real)
            loss, found = token_contrast(*hidden, weights[at], real, temperature, needs_grad)
            total += loss
            if found is not None:
                grads[0][at], grads[1][at] = found
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
    report of one word has nothing to be distinguished from and adds 0. No gradient goes to ``weights``.

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
