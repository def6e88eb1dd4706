# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Words from word pieces: their embeddings and attention are added up, and projected without their padding."""

from __future__ import annotations

from collections.abc import Callable

import torch

from monai_mgca.utils.chunks import can_be_read

__all__ = ["aggregate_words", "project_words", "report_extent"]

# A graph that is compiled is compiled anew for other lengths: they are multiples of this.
STEP = 8


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


def report_extent(attention_mask: torch.Tensor, word_ids: torch.Tensor) -> tuple[int, int] | None:
    """How far the reports of a batch reach, to be asked before the batch goes to a device that has no time to answer.

    Args:
        attention_mask: (B, L), 1 on tokens.
        word_ids: (B, L) int64, -1 where there is no word.

    Returns:
        The length of the longest report, rounded up to a multiple of 8 and at most L, and the number of words of all;
        None where reading would wait for a device.

    Example::

        words = torch.tensor([[-1, 0, 0, -1], [-1, 0, -1, -1]])
        print(report_extent(torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]]), words))  # (4, 2)
    """
    if not (can_be_read(attention_mask) and can_be_read(word_ids)):
        return None
    length = word_ids.shape[1]
    used = ((attention_mask > 0) | (word_ids >= 0)) * torch.arange(1, length + 1)
    longest = min(length, -(-max(1, int(used.max())) // STEP) * STEP)
    slots = min(length - 1, longest)
    there = torch.zeros(len(word_ids), length + 1, dtype=torch.bool)
    there.scatter_(1, word_ids.clamp(-1, length - 1) + 1, True)
    return longest, int(there[:, 1 : slots + 1].sum())


def project_words(
    head: Callable[..., torch.Tensor], words: torch.Tensor, mask: torch.Tensor, count: int | None = None
) -> torch.Tensor:
    """What a projection gives for the real words, which alone are computed where their number is known.

    Args:
        head: :class:`monai_mgca.networks.ProjectionHead`.
        words: (B, W, C).
        mask: (B, W) bool, True on words.
        count: how many words there are, exactly; needed on a GPU, which would have to be waited for, and in a graph
            that is compiled. If None, padding is computed there, too.

    Returns:
        (B, W, D), zero on padding.

    Example::

        from monai_mgca.networks import ProjectionHead
        mask = torch.tensor([[True, True, False], [True, False, False]])
        print(project_words(ProjectionHead(8, 16, 4), torch.randn(2, 3, 8), mask).shape)
    """
    if can_be_read(mask):
        places = mask.flatten().nonzero().squeeze(1)
    elif count is not None:
        places = mask.flatten().byte().argsort(descending=True, stable=True)[:count]
    else:
        return head(words, mask) * mask[:, :, None]
    rows = words.flatten(0, 1).index_select(0, places)
    # of less than two rows torch's batch norm has no statistics, and ours has those of none or one
    few = rows.new_ones(len(rows), dtype=torch.bool) if len(rows) < 2 else None
    found = head(rows, few)
    empty = found.new_zeros(mask.numel(), found.shape[1])
    return empty.index_copy(0, places, found).unflatten(0, mask.shape)
