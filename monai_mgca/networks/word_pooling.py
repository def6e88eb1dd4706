# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Words from word pieces: their embeddings and attention are added up."""

from __future__ import annotations

import torch

from monai_mgca.utils.chunks import can_be_read

__all__ = ["aggregate_words"]


def aggregate_words(
    pieces: torch.Tensor, attention: torch.Tensor, word_ids: torch.Tensor, num_words: int | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sum the word pieces of each word, and the attention to them.

    Args:
        pieces: (B, L, C) states of the word pieces.
        attention: (B, L) attention of [CLS] to each piece.
        word_ids: (B, L) int64, the number of the word a piece belongs to, -1 where it belongs to none.
        num_words: W; L if None. Words numbered W or higher are left out.

    Returns:
        words (B, W, C), attention (B, W), mask (B, W) bool that is True where a word has a piece.

    Raises:
        ValueError: when the shapes do not fit.

    Example::

        ids = torch.tensor([[-1, 0, 0, 1, -1]])
        words, attention, mask = aggregate_words(torch.randn(1, 5, 8), torch.rand(1, 5), ids, num_words=3)
    """
    if pieces.ndim != 3 or attention.shape != pieces.shape[:2] or word_ids.shape != pieces.shape[:2]:
        raise ValueError(
            "pieces must be (B, L, C), attention and word_ids (B, L), got "
            f"{tuple(pieces.shape)}, {tuple(attention.shape)}, {tuple(word_ids.shape)}."
        )
    batch, length, channels = pieces.shape
    words = length if num_words is None else num_words
    belongs = (word_ids >= 0) & (word_ids < words)
    row = torch.arange(batch, device=pieces.device)[:, None] * words
    if can_be_read(word_ids):  # padding is not walked over
        kept = belongs.flatten().nonzero().squeeze(1)
        place, source = (word_ids + row).flatten()[kept], pieces.flatten(0, 1).index_select(0, kept)
    else:
        place = torch.where(belongs, word_ids + row, row).flatten()
        source = pieces.masked_fill(~belongs[:, :, None], 0).flatten(0, 1)
    summed = pieces.new_zeros(batch * words, channels).index_add_(0, place, source)
    # slot 0 takes what belongs to no word and is cut off
    slot = torch.where(belongs, word_ids + 1, 0)
    summed_attention = attention.new_zeros(batch, words + 1).scatter_add(1, slot, attention)
    counts = torch.zeros_like(summed_attention).scatter_add(1, slot, torch.ones_like(attention))
    return summed.view(batch, words, channels), summed_attention[:, 1:], counts[:, 1:] > 0
