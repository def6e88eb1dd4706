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

from monai_mgca.losses.token import FLOAT32_TEMPERATURE, TokenContrast, check_temperature, row_blocks
from monai_mgca.utils.chunks import elements_at_once, slices
from monai_mgca.utils.precision import full_precision

__all__ = ["MatchedTokenLoss"]


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
        real: torch.Tensor,
        temperature: float,
    ) -> torch.Tensor:
        """Arguments as those of :class:`MatchedTokenLoss`; ``real`` is 1 on words that count, else 0."""
        longest = max(words.shape[1], patches.shape[1])
        samples = max(1, elements_at_once(words.device) // longest**2)
        needs_grad = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        total = words.new_zeros(())
        grads = (torch.zeros_like(words), torch.zeros_like(patches)) if needs_grad else ()
        for part in slices(len(words), samples):
            chunk = _Matching(words[part], patches[part], real[part], temperature)
            found = [
                chunk.contrast(chunk.words, chunk.word_context, word_weights[part], real[part]),
                chunk.contrast(chunk.patches, chunk.patch_context, patch_weights[part], None),
            ]
            for index, (side, blocks) in enumerate(found):
                total += side.loss(blocks)
                if needs_grad:
                    context_grad = torch.zeros_like(side.context)
                    side.add_gradients(blocks, grads[index][part], context_grad)
                    chunk.add_gradients(index, context_grad, grads[0][part], grads[1][part])
            if needs_grad:
                chunk.add_shared(grads[0][part], grads[1][part])
        ctx.save_for_backward(*grads)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        word_grad, patch_grad = ctx.saved_tensors
        return grad * word_grad, grad * patch_grad, None, None, None, None


class _Matching:
    """Some samples' words and patches, and what each finds in the other."""

    def __init__(self, words: torch.Tensor, patches: torch.Tensor, real: torch.Tensor, temperature: float) -> None:
        self.words, self.patches = words.masked_fill((real == 0)[:, :, None], 0), patches
        self.temperature = temperature
        scores = torch.bmm(self.words, patches.transpose(1, 2)).mul_(1 / temperature)
        # words to patches (n, W, P), patches to words that are no padding (n, P, W); without any word none is hidden
        empty = ~real.any(1, keepdim=True)
        hidden = (real == 0) & ~empty
        to_words = scores.transpose(1, 2).masked_fill(hidden[:, None, :], -torch.inf).softmax(2)
        self.attention = (scores.softmax(2), to_words)
        self.word_context, self.word_norm = _unit(torch.bmm(self.attention[0], patches))
        self.patch_context, self.patch_norm = _unit(torch.bmm(self.attention[1], self.words))
        self.patch_norm.masked_fill_(empty[:, :, None], torch.inf)  # contexts of no word are zero, without gradient
        self.score_grad: torch.Tensor | None = None

    def contrast(
        self, tokens: torch.Tensor, context: torch.Tensor, weights: torch.Tensor, real: torch.Tensor | None
    ) -> tuple[TokenContrast, list[slice]]:
        real = torch.ones_like(weights) if real is None else real
        side = TokenContrast(tokens, context, weights, real, self.temperature)
        return side, row_blocks(tokens.shape[1], tokens.device)

    def add_gradients(self, side: int, grad: torch.Tensor, word_grad: torch.Tensor, patch_grad: torch.Tensor) -> None:
        """From the gradient of one side's contexts: of the keys that they are made of, and of the scores."""
        context, norm = ((self.word_context, self.word_norm), (self.patch_context, self.patch_norm))[side]
        keys, key_grad = ((self.patches, patch_grad), (self.words, word_grad))[side]
        # what points along a context changes nothing of its direction
        grad = (grad - (grad * context).sum(2, keepdim=True) * context) / norm
        attention = self.attention[side]
        key_grad.baddbmm_(attention.transpose(1, 2), grad)
        score_grad = torch.bmm(grad, keys.transpose(1, 2))
        score_grad.sub_((score_grad * attention).sum(2, keepdim=True)).mul_(attention)
        if side == 0:
            self.score_grad = score_grad
        else:
            self.score_grad += score_grad.transpose(1, 2)

    def add_shared(self, word_grad: torch.Tensor, patch_grad: torch.Tensor) -> None:
        """From the gradient of the scores, which both sides share."""
        scale = 1 / self.temperature
        word_grad.baddbmm_(self.score_grad, self.patches, alpha=scale)
        patch_grad.baddbmm_(self.score_grad.transpose(1, 2), self.words, alpha=scale)


def _unit(context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    norm = context.norm(dim=2, keepdim=True).clamp_(min=1e-12)
    return context / norm, norm


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
            real = words.new_ones(words.shape[:2]) if word_mask is None else word_mask.to(words.dtype)
            if word_weights is None:
                word_weights = real / real.sum(1, keepdim=True).clamp_min(1)
            if patch_weights is None:
                patch_weights = words.new_full(patches.shape[:2], 1 / patches.shape[1])
            weights = ((word_weights * real).detach().to(words.dtype), patch_weights.detach().to(words.dtype))
            total: torch.Tensor = _MatchedContrast.apply(words, patches, *weights, real, self.temperature)
            return (total / (2 * len(words))).to(dtype)
