# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The token contrast whose matching is computed inside, without the matrix of all tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.modules.loss import _Loss

from monai_mgca.losses.token_contrast import (
    FLOAT32_TEMPERATURE,
    check_temperature,
    exponentials,
    hide,
    token_contrast,
)
from monai_mgca.utils.chunks import elements_at_once, parts
from monai_mgca.utils.precision import full_precision

__all__ = ["MatchedTokenLoss"]

Pair = tuple[torch.Tensor, torch.Tensor]


class _MatchedContrast(torch.autograd.Function):
    """Sum over the batch of both sides of the token alignment, each token's context found by similarity on the way.

    All of it, the matching and both gradients too, is made for a few samples at a time. Beside the gradients nothing
    outlives them, neither contexts nor attention, and the similarities of words and patches serve both sides.
    """

    @staticmethod
    def forward(
        ctx: Any,
        words: torch.Tensor,
        patches: torch.Tensor,
        word_weights: torch.Tensor,
        patch_weights: torch.Tensor,
        word_mask: torch.Tensor | None,
        temperature: float,
    ) -> torch.Tensor:
        """Arguments as those of :class:`MatchedTokenLoss`."""
        longest = max(words.shape[1], patches.shape[1])
        samples = max(1, elements_at_once(words.device) // longest**2)
        needs_grad = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        total = words.new_zeros(())
        grads: tuple[torch.Tensor, ...] = (torch.zeros_like(words), torch.empty_like(patches)) if needs_grad else ()
        for part, tokens, mask in parts(word_mask, len(words), samples):
            chunk = _Matching(hide(words[part, tokens], mask), patches[part], mask, temperature)
            word_loss, by_word = chunk.word_side(word_weights[part, tokens], needs_grad)
            patch_loss, by_patch = chunk.patch_side(patch_weights[part], needs_grad)
            total += word_loss
            total += patch_loss
            if by_word is not None and by_patch is not None:
                grads[0][part, tokens], grads[1][part] = chunk.gradients(by_word, by_patch)
        ctx.save_for_backward(*grads)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        word_grad, patch_grad = ctx.saved_tensors
        return grad * word_grad, grad * patch_grad, None, None, None, None


class _Matching:
    """Some samples' words and patches, and what each finds in the other.

    A context is scaled to unit length. So the sum that a softmax divides by needs not be known, and one exponential
    serves both directions; and of its gradient, which has nothing along the context, none goes through that sum.

    Args:
        words: (n, W, D) unit vectors, 0 where ``mask`` is False.
        patches: (n, P, D) unit vectors.
        mask: (n, W) bool, True on words that are not padding; None where none is.
        temperature: divides the cosines.
    """

    def __init__(
        self, words: torch.Tensor, patches: torch.Tensor, mask: torch.Tensor | None, temperature: float
    ) -> None:
        self.words, self.patches, self.mask, self.temperature = words, patches, mask, temperature
        self.attention = exponentials(words, patches, 1 / temperature)
        if mask is not None:
            self.attention *= mask[:, :, None].to(words.dtype)
        self.word_context, self.word_norm = _unit(torch.bmm(self.attention, patches))
        self.patch_context, self.patch_norm = _unit(torch.bmm(self.attention.transpose(1, 2), words))

    def word_side(self, weights: torch.Tensor, needs_grad: bool) -> tuple[torch.Tensor, Pair | None]:
        """The words against what they found among the patches."""
        return token_contrast(self.words, self.word_context, weights, self.mask, self.temperature, needs_grad)

    def patch_side(self, weights: torch.Tensor, needs_grad: bool) -> tuple[torch.Tensor, Pair | None]:
        """The patches against what they found among the words."""
        return token_contrast(self.patches, self.patch_context, weights, None, self.temperature, needs_grad)

    def gradients(self, word_side: Pair, patch_side: Pair) -> Pair:
        """Those of words and patches, from those that each side has for its tokens and for their contexts."""
        word_grad, patch_grad = word_side[0], patch_side[0]
        of_words = _through_unit(word_side[1], self.word_context, self.word_norm)
        of_patches = _through_unit(patch_side[1], self.patch_context, self.patch_norm)
        scores = torch.bmm(of_words, self.patches.transpose(1, 2))
        scores.baddbmm_(self.words, of_patches.transpose(1, 2)).mul_(self.attention)
        scale = 1 / self.temperature
        word_grad.baddbmm_(scores, self.patches, alpha=scale).baddbmm_(self.attention, of_patches)
        patch_grad.baddbmm_(scores.transpose(1, 2), self.words, alpha=scale)
        return word_grad, patch_grad.baddbmm_(self.attention.transpose(1, 2), of_words)


def _unit(context: torch.Tensor) -> Pair:
    """Contexts of unit length, and their norms before; of nothing it is 0 and has no gradient."""
    norm = context.norm(dim=2, keepdim=True)
    norm.masked_fill_(norm == 0, torch.inf)
    return context.div_(norm), norm


def _through_unit(grad: torch.Tensor, unit: torch.Tensor, norm: torch.Tensor) -> torch.Tensor:
    """The gradient of what was scaled to unit length: what points along it changes nothing of its direction."""
    return grad.addcmul_((grad * unit).sum(2, keepdim=True), unit, value=-1).div_(norm)


class MatchedTokenLoss(_Loss):
    """Both sides of the token-wise alignment (CTA), with contexts found by similarity: fast, and lean in memory.

    Wang et al. "Multi-Granularity Cross-modal Alignment for Generalized Medical Visual Representation Learning",
    NeurIPS 2022, https://arxiv.org/abs/2210.06044. The same as :func:`monai_mgca.networks.soft_match` of words and
    patches, each in the other, and the mean of :class:`TokenAlignmentLoss` of both; but contexts are made on the way
    and not kept. Memory is linear in the number of tokens, so that those of a volume fit.

    Args:
        temperature: divides the cosines, in the matching and in the contrast; the paper's tau2.

    Raises:
        ValueError: when ``temperature`` is below 0.003, or a shape does not fit.

    Example::

        unit = lambda *shape: torch.nn.functional.normalize(torch.randn(*shape), dim=-1)
        print(MatchedTokenLoss()(unit(8, 20, 128), unit(8, 196, 128)))
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)

    def forward(
        self,
        words: torch.Tensor,
        patches: torch.Tensor,
        word_weights: torch.Tensor | None = None,
        patch_weights: torch.Tensor | None = None,
        word_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Args:
            words: (B, W, D) unit vectors.
            patches: (B, P, D) unit vectors.
            word_weights: (B, W), rows sum to 1; uniform over the words of ``word_mask`` if None.
            patch_weights: (B, P), rows sum to 1; uniform if None.
            word_mask: (B, W) bool, True on words that are not padding; all True if None.

        Returns:
            The loss, a scalar.
        """
        if words.ndim != 3 or patches.ndim != 3 or words.shape[::2] != patches.shape[::2]:
            raise ValueError(
                f"words must be (B, W, D), patches (B, P, D), got {tuple(words.shape)}, {tuple(patches.shape)}."
            )
        for name, value, tokens in (
            ("word_weights", word_weights, words),
            ("patch_weights", patch_weights, patches),
            ("word_mask", word_mask, words),
        ):
            if value is not None and value.shape != tokens.shape[:2]:
                raise ValueError(f"{name} must be {tuple(tokens.shape[:2])}, got {tuple(value.shape)}.")
        with full_precision(words, patches) as (words, patches):
            dtype = words.dtype
            if self.temperature < FLOAT32_TEMPERATURE:
                words, patches = words.double(), patches.double()
            mask = None if word_mask is None else word_mask.bool()
            if word_weights is None:
                word_weights = words.new_ones(words.shape[:2]) if mask is None else mask.to(words.dtype)
                word_weights = word_weights / word_weights.sum(1, keepdim=True).clamp_min(1)
            elif mask is not None:
                word_weights = word_weights * mask
            if patch_weights is None:
                patch_weights = words.new_full(patches.shape[:2], 1 / patches.shape[1])
            weights = (word_weights.detach().to(words.dtype), patch_weights.detach().to(words.dtype))
            total: torch.Tensor = _MatchedContrast.apply(words, patches, *weights, mask, self.temperature)
            return (total / (2 * len(words))).to(dtype)
