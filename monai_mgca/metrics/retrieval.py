# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Recall and ranks of images by reports and of reports by images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric

from monai_mgca.utils.chunks import slices

__all__ = ["RetrievalMetric", "chance_retrieval", "compute_retrieval", "own_ranks"]


class RetrievalMetric(CumulativeIterationMetric):
    """Recall@k and median rank of image-to-report and report-to-image retrieval over a whole set.

    Reports that are the same are one answer: an image finds its report when it finds any with the same tokens, and a
    report is asked for once for each image that has it. The rank of the right answer is one more than the number of
    wrong pairs that score higher, so that ties and duplicates neither help nor hurt.

    Args:
        ks: the ranks at which recall is measured.

    Example::

        metric = RetrievalMetric()
        unit = torch.nn.functional.normalize(torch.randn(50, 16), dim=-1)
        metric(unit, unit, report_tokens=torch.arange(50)[:, None])
        print(metric.aggregate()["image_to_report_recall_at_1"])
    """

    def __init__(self, ks: Sequence[int] = (1, 5, 10)) -> None:
        super().__init__()
        self.ks = tuple(ks)

    def _compute_tensor(  # type: ignore[override]
        self, y_pred: torch.Tensor, y: torch.Tensor | None = None, report_tokens: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """
        Args:
            y_pred: (B, D) image embeddings, unit vectors.
            y: (B, D) report embeddings, unit vectors; row i belongs to row i of ``y_pred``.
            report_tokens: (B, L) token ids of the reports, by which duplicates are known.

        Raises:
            ValueError: when the embeddings are not of one shape (B, D), or ``report_tokens`` is missing.
        """
        if y is None or y_pred.ndim != 2 or y_pred.shape != y.shape:
            got = None if y is None else tuple(y.shape)
            raise ValueError(f"image and report embeddings must both be (B, D), got {tuple(y_pred.shape)}, {got}.")
        if report_tokens is None:
            raise ValueError("report_tokens (B, L) are needed to know which reports are the same.")
        return [y_pred, y, report_tokens]

    def aggregate(self) -> dict[str, float]:
        """
        Returns:
            "image_to_report_recall_at_k" and "report_to_image_recall_at_k" for each k, "image_to_report_median_rank"
            and "report_to_image_median_rank", and "mean_recall", the mean of all recalls.
        """
        buffer = self.get_buffer()
        if buffer is None:
            raise ValueError("The metric has seen no data: call it before aggregate().")
        image, report, report_tokens = buffer
        return compute_retrieval(image, report, report_tokens, self.ks)


def compute_retrieval(
    image: torch.Tensor, report: torch.Tensor, report_tokens: torch.Tensor, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """The figures of :class:`RetrievalMetric` for a whole set.

    Args:
        image: (N, D) unit vectors.
        report: (N, D) unit vectors.
        report_tokens: (N, L) token ids of the reports.
        ks: the ranks at which recall is measured.

    Example::

        unit = torch.nn.functional.normalize(torch.randn(50, 16), dim=-1)
        print(compute_retrieval(unit, unit, torch.arange(50)[:, None]))
    """
    group = torch.unique(report_tokens, dim=0, return_inverse=True)[1]
    result: dict[str, Any] = {}
    for name, ranks in zip(("image_to_report", "report_to_image"), _ranks(image, report, group), strict=True):
        result |= {f"{name}_recall_at_{k}": (ranks <= k).float().mean().item() for k in ks}
        result[f"{name}_median_rank"] = ranks.float().quantile(0.5).item()
    recalls = [value for name, value in result.items() if "recall" in name]
    result["mean_recall"] = sum(recalls) / len(recalls)
    return result


def own_ranks(query: torch.Tensor, key: torch.Tensor, report_tokens: torch.Tensor) -> torch.Tensor:
    """The rank of each row's own answer, as :class:`RetrievalMetric` counts it: 1 is the first.

    Args:
        query: (N, D) unit vectors, of images or reports.
        key: (N, D) unit vectors of the others.
        report_tokens: (N, L) token ids of the reports; those that are the same are one answer.

    Returns:
        (N,) int64.

    Example::

        unit = torch.nn.functional.normalize(torch.randn(50, 16), dim=-1)
        print(own_ranks(unit, unit, torch.arange(50)[:, None]).max())  # 1
    """
    return _ranks(query, key, torch.unique(report_tokens, dim=0, return_inverse=True)[1])[0]


@torch.no_grad()
def _ranks(
    image: torch.Tensor, report: torch.Tensor, group: torch.Tensor, chunk: int = 512
) -> tuple[torch.Tensor, torch.Tensor]:
    """The rank of the best right answer of each image, and of each report.

    The ranks are counted, not sorted, in one product for both ways, a block of it at a time: N x N does not fit for
    large N. In the order of their groups right answers lie along the diagonal, and only blocks there have a mask.
    """
    order = group.argsort(stable=True)
    image, report, group = image[order], report[order], group[order]
    total = len(group)
    best = image.new_full((2, total), -torch.inf)  # of each image, and of each report
    below = torch.zeros(2, total, dtype=torch.long, device=group.device)  # wrong answers that are not better
    parts = slices(total, chunk)
    ends = [(int(group[part.start]), int(group[part.stop - 1])) for part in parts]
    blocks = [
        (rows, columns, first[0] <= second[1] and second[0] <= first[1])
        for rows, first in zip(parts, ends, strict=True)
        for columns, second in zip(parts, ends, strict=True)
    ]
    for rows, columns, on_diagonal in blocks:
        if on_diagonal:
            right = group[rows, None] == group[columns]
            scores = (image[rows] @ report[columns].T).masked_fill_(~right, -torch.inf)
            best[0, rows] = best[0, rows].maximum(scores.amax(1))
            best[1, columns] = best[1, columns].maximum(scores.amax(0))
    for rows, columns, on_diagonal in blocks:
        scores = image[rows] @ report[columns].T
        same = group[rows, None] == group[columns] if on_diagonal else None
        for way, bar in enumerate((best[0, rows, None], best[1, columns])):
            # as float32: counted several times as fast as bool, and exact
            hits = torch.le(scores, bar, out=torch.empty_like(scores, dtype=torch.float32))
            hits = hits if same is None else hits.masked_fill_(same, 0)
            below[way, columns if way else rows] += hits.sum(1 - way).long()
    # all wrong answers but these are better, and those that are not a number: such a query's rank is the last
    ranks = total - group.bincount()[group] - below + 1
    image_ranks, report_ranks = torch.empty_like(ranks).index_copy_(1, order, ranks)
    return image_ranks, report_ranks


def chance_retrieval(report_tokens: torch.Tensor, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """What :func:`compute_retrieval` gives on average where the embeddings hold no information, the same for both ways.

    Args:
        report_tokens: (N, L) token ids of the reports; with reports that are the same, chance is better.
        ks: the ranks at which recall is measured.

    Returns:
        "chance_recall_at_k" for each k and "chance_median_rank".

    Example::

        print(chance_retrieval(torch.arange(50)[:, None])["chance_recall_at_5"])  # 0.1
    """
    sizes = torch.unique(report_tokens, dim=0, return_counts=True)[1]
    # queries with as many right answers have the same chance
    right, groups = sizes.cpu().unique(return_counts=True)
    total, right = len(report_tokens), right.double()
    share, missed = right * groups / total, torch.ones_like(right)  # the first r of a random order hold no right answer
    recalls: list[float] = []
    for part in slices(total, 1024):
        rank = torch.arange(part.start, part.stop)[:, None]
        factors = ((total - right - rank) / (total - rank)).clamp(min=0)
        factors[0] *= missed
        chances = factors.cumprod(0)
        recalls += (1 - chances @ share).tolist()
        missed = chances[-1]
        if part.stop >= max(ks) and recalls[-1] >= 0.5:
            break
    result = {f"chance_recall_at_{k}": recalls[min(k, len(recalls)) - 1] for k in ks}
    median = next(rank for rank, recall in enumerate(recalls, 1) if recall >= 0.5 - 1e-9)
    return {**result, "chance_median_rank": float(median)}
