# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""How far each study is from what is annotated: novelty and k-center."""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["k_center", "mix_scores", "novelty"]


def novelty(embeddings: torch.Tensor, labeled: Sequence[int]) -> torch.Tensor:
    """How far every image is from the nearest labeled one.

    Args:
        embeddings: (N, D) unit vectors.
        labeled: rows of the labeled images.

    Returns:
        (N,) cosine distances, 0 to 2; 1 for all where nothing is labeled.

    Example::

        print(novelty(torch.eye(3), [0]))  # tensor([0., 1., 1.])
    """
    if not len(labeled):
        return torch.ones(len(embeddings), device=embeddings.device)
    rows = torch.as_tensor(labeled, device=embeddings.device)
    nearest = torch.full((len(embeddings),), -1.0, dtype=embeddings.dtype, device=embeddings.device)
    for some in rows.split(1024):
        nearest = torch.maximum(nearest, (embeddings @ embeddings[some].T).amax(1))
    return (1 - nearest).clamp_min(0)


def k_center(
    embeddings: torch.Tensor, labeled: Sequence[int], count: int, allowed: Sequence[int] | None = None
) -> list[int]:
    """Choose images one after the other, each the farthest from all that are labeled or chosen (k-center greedy).

    Sener and Savarese "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018,
    https://arxiv.org/abs/1708.00489, with the cosine distance. Where nothing is labeled yet, the first is the medoid of
    what is allowed: the most usual image.

    Args:
        embeddings: (N, D) unit vectors.
        labeled: rows of the labeled images.
        count: how many to choose.
        allowed: rows to choose from; those that are labeled are not chosen again. Defaults to all.

    Returns:
        Rows in the order of choice, fewer than `count` where there are no more.

    Example::

        print(k_center(torch.eye(4), labeled=[2], count=2))  # [0, 1]
    """
    free = torch.zeros(len(embeddings), dtype=torch.bool, device=embeddings.device)
    free[torch.arange(len(embeddings)) if allowed is None else torch.as_tensor(list(allowed), dtype=torch.long)] = True
    free[torch.as_tensor(list(labeled), dtype=torch.long)] = False
    chosen: list[int] = []
    farthest = torch.full((len(embeddings),), 2.0, dtype=embeddings.dtype, device=embeddings.device)
    distance = novelty(embeddings, labeled) if len(labeled) else farthest
    for _ in range(min(count, int(free.sum()))):
        # the medoid has the least sum of cosine distances to the others
        score = distance if len(labeled) or chosen else embeddings @ embeddings[free].sum(0)
        row = int(torch.where(free, score, -torch.inf).argmax())
        chosen.append(row)
        free[row] = False
        distance = torch.minimum(distance, (1 - embeddings @ embeddings[row]).clamp_min(0))
    return chosen


def mix_scores(uncertainty: torch.Tensor, novelty: torch.Tensor, weight: float) -> torch.Tensor:
    """What is worth annotating by both: each scaled from its least to its greatest value.

    Args:
        uncertainty: (N,) of the images to choose from, such as mean entropies.
        novelty: (N,) of the same, see :func:`novelty`.
        weight: of the uncertainty, 0 to 1; the novelty has the rest.

    Returns:
        (N,), 0 to 1.

    Example::

        print(mix_scores(torch.tensor([0.1, 0.5]), torch.tensor([0.4, 0.2]), weight=0.75))  # tensor([0.25, 0.75])
    """

    def scaled(values: torch.Tensor) -> torch.Tensor:
        spread = values.max() - values.min()
        return (values - values.min()) / spread if spread > 0 else torch.zeros_like(values)

    return weight * scaled(uncertainty) + (1 - weight) * scaled(novelty)
