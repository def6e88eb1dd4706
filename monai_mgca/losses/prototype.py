# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""CPA: images and reports predict each other's assignment to prototypes, balanced by Sinkhorn."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.nn.modules.loss import _Loss

from monai_mgca.utils.dist import all_gather_with_grad, batch_sizes, rank
from monai_mgca.utils.precision import full_precision

__all__ = ["PrototypeAlignmentLoss", "sinkhorn"]

# Scores from which on log space takes too long: twice those of a batch of 1,024 and 500 prototypes. Below it the codes
# keep the last bits that trainings of a seed always had.
LARGE = 2**20


@torch.no_grad()
def sinkhorn(
    scores: torch.Tensor, epsilon: float = 0.05, iterations: int = 3, gather_distributed: bool = False
) -> torch.Tensor:
    """Soft assignment of a batch to prototypes that uses all prototypes equally, by Sinkhorn-Knopp.

    Caron et al. "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments", NeurIPS 2020,
    https://arxiv.org/abs/2006.09882. However small ``epsilon`` is, nothing overflows: it is computed in log space, or
    for a large matrix by one exponential below the maxima of columns and rows, which gives the same but for rounding.

    Args:
        scores: (B, K) cosines of samples and prototypes.
        epsilon: entropy of the assignment; a smaller one gives sharper codes.
        iterations: how often columns and rows are normalized in turn.
        gather_distributed: balance the codes over the samples of all processes.

    Returns:
        (B, K) codes in float32 at least, rows sum to 1; no gradient flows through them.

    Raises:
        ValueError: when ``epsilon`` is not positive, ``iterations`` is negative or ``scores`` is not (B, K).

    Example::

        codes = sinkhorn(torch.rand(8, 16) * 2 - 1)
        print(codes.sum(dim=1))
    """
    if epsilon <= 0:
        raise ValueError(f"epsilon must be positive, got {epsilon}.")
    if iterations < 0:
        raise ValueError(f"iterations must not be negative, got {iterations}.")
    if scores.ndim != 2:
        raise ValueError(f"scores must be (B, K), got {tuple(scores.shape)}.")
    rows, first = len(scores), 0
    if gather_distributed:
        sizes = batch_sizes(rows)
        scores, first = all_gather_with_grad(scores, sizes), sum(sizes[: rank()])
    with full_precision(scores) as (scores,):
        few = 1 <= iterations <= 3
        balance = _balance if few and scores.numel() >= LARGE else _balance_in_log_space
        codes = balance(scores, epsilon, iterations)
    return codes.narrow(0, first, rows)


def _balance_in_log_space(scores: torch.Tensor, epsilon: float, iterations: int) -> torch.Tensor:
    # the overall scale cancels, and smaller numbers keep more of their digits
    log_codes = (scores - scores.max()) / epsilon
    for _ in range(iterations):
        log_codes = log_codes.log_softmax(dim=0)
        log_codes = log_codes.log_softmax(dim=1)
    return log_codes.softmax(dim=1)


def _balance(scores: torch.Tensor, epsilon: float, iterations: int) -> torch.Tensor:
    """The same for few rounds: one exponential, and scales of its rows and columns.

    Below the maxima every row has a 1, and every column has one in a row of scale 1, so that no first sum is below 1.
    Later a scale grows by B K a round at most, which in few rounds float32 holds.
    """
    kernel = scores - scores.amax(dim=0)
    shift = kernel.amax(dim=1, keepdim=True)
    kernel.sub_(shift).div_(epsilon).exp_()
    rows = (shift / epsilon).exp().squeeze(1)
    for _ in range(iterations):
        columns = 1 / (rows @ kernel)
        rows = 1 / (kernel @ columns)
    return kernel.mul_(columns).mul_(rows[:, None])


class PrototypeAlignmentLoss(_Loss):
    """Cross-modal prototype alignment (CPA): each modality predicts the other's balanced prototype assignment.

    Wang et al. "Multi-Granularity Cross-modal Alignment for Generalized Medical Visual Representation Learning",
    NeurIPS 2022, https://arxiv.org/abs/2210.06044 (its equation 8 lacks a minus sign). Computed in float32 at least,
    also under autocast. The codes of a batch of one are uniform.

    Args:
        temperature: divides the cosines of the prediction; the paper's tau3.
        epsilon: entropy of the codes, see :func:`sinkhorn`.
        iterations: Sinkhorn iterations.
        gather_distributed: in training mode, balance the codes over the samples of all processes, which may have
            batches of different sizes.

    Raises:
        ValueError: when ``temperature`` is not positive, or the scores are not of one shape (B, K).

    Example::

        loss = PrototypeAlignmentLoss()
        print(loss(torch.rand(8, 16) * 2 - 1, torch.rand(8, 16) * 2 - 1))
    """

    def __init__(
        self, temperature: float = 0.2, epsilon: float = 0.05, iterations: int = 3, gather_distributed: bool = False
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}.")
        self.temperature = temperature
        self.epsilon = epsilon
        self.iterations = iterations
        self.gather_distributed = gather_distributed

    def forward(self, image_scores: torch.Tensor, report_scores: torch.Tensor) -> torch.Tensor:
        """
        Args:
            image_scores: (B, K) cosines of the image embeddings and the prototypes.
            report_scores: (B, K) cosines of the report embeddings and the prototypes.

        Returns:
            The loss, a scalar.
        """
        if image_scores.ndim != 2 or image_scores.shape != report_scores.shape:
            raise ValueError(
                "image_scores and report_scores must both be (B, K), got "
                f"{tuple(image_scores.shape)}, {tuple(report_scores.shape)}."
            )
        with full_precision(image_scores, report_scores) as (image_scores, report_scores):
            gather = self.gather_distributed and self.training
            image_codes, report_codes = (
                sinkhorn(scores, self.epsilon, self.iterations, gather) for scores in (image_scores, report_scores)
            )
            from_image = F.cross_entropy(image_scores / self.temperature, report_codes)
            from_report = F.cross_entropy(report_scores / self.temperature, image_codes)
            return (from_image + from_report) / 2
