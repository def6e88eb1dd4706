# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The contrast of tokens with their contexts, loss and gradients at once: what both token losses are made of."""

from __future__ import annotations

import torch

from monai_mgca.utils.chunks import elements_at_once, slices

__all__ = ["FLOAT32_TEMPERATURE", "check_temperature", "exponentials", "hide", "row_blocks", "token_contrast"]

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


def token_contrast(
    tokens: torch.Tensor,
    context: torch.Tensor,
    weights: torch.Tensor,
    mask: torch.Tensor | None,
    temperature: float,
    needs_grad: bool,
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor] | None]:
    """The weighted symmetric cross-entropies of tokens and contexts, and their gradients beside them.

    It is :func:`monai_mgca.losses.token_reference.token_contrast_reference`. What makes it fast: rows and columns share
    one exponential, because a cosine over the temperature has a bound and needs no maximum subtracted; and the
    gradients of both softmaxes are one product with it. Of very many tokens some rows are held at a time.

    Args:
        tokens: (n, N, D) unit vectors, finite also where ``mask`` is False.
        context: (n, N, D), the same.
        weights: (n, N), 0 where ``mask`` is False.
        mask: (n, N) bool, True on tokens that are not padding; None where none is.
        temperature: divides the cosines.
        needs_grad: whether the gradients are made.

    Returns:
        The sum over the samples, and its gradients with respect to tokens and context, or None.
    """
    scale, blocks = 1 / temperature, row_blocks(tokens.shape[1], tokens.device)
    real = None if mask is None else mask.to(tokens.dtype)
    row, matched = (torch.empty_like(tokens[:, :, 0]) for _ in range(2))
    column = torch.zeros_like(matched)
    for rows in blocks:
        found = _exponentials_of_rows(tokens, context, real, scale, rows)
        row[:, rows] = found.sum(2)
        column += found.sum(1)
        matched[:, rows] = found.diagonal(offset=rows.start, dim1=1, dim2=2)
    loss = (weights * ((row / matched).log() + (column / matched).log())).sum() / 2
    if not needs_grad:
        return loss, None
    weights = weights * (scale / 2)
    by_row, by_column = (weights / row)[:, :, None], (weights / column)[:, None]
    token_grad, context_grad = torch.empty_like(tokens), torch.empty_like(context)
    for number, rows in enumerate(blocks):
        # of several blocks only the last is still there
        grad = found if len(blocks) == 1 else _exponentials_of_rows(tokens, context, real, scale, rows)
        grad *= by_row[:, rows] + by_column
        grad.diagonal(offset=rows.start, dim1=1, dim2=2).sub_(2 * weights[:, rows])
        torch.bmm(grad, context, out=token_grad[:, rows])
        context_grad.baddbmm_(grad.transpose(1, 2), tokens[:, rows], beta=min(number, 1))
    return loss, (token_grad, context_grad)


def _exponentials_of_rows(
    tokens: torch.Tensor, context: torch.Tensor, real: torch.Tensor | None, scale: float, rows: slice
) -> torch.Tensor:
    """exp(cosine / temperature) of some rows with all columns; padding is alone with itself."""
    found = exponentials(tokens[:, rows], context, scale)
    if real is not None:
        pairs = real[:, rows, None] * real[:, None]
        pairs.diagonal(offset=rows.start, dim1=1, dim2=2).fill_(1)
        found *= pairs
    return found
