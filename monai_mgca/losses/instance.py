# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""ITA: the symmetric contrast of whole images and whole reports."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.nn.modules.loss import _Loss

from monai_mgca.utils.dist import all_gather_with_grad, batch_sizes, rank
from monai_mgca.utils.precision import full_precision

__all__ = ["InstanceAlignmentLoss"]


class InstanceAlignmentLoss(_Loss):
    """Instance-wise image-text alignment (ITA): symmetric InfoNCE between the images and reports of a batch.

    Wang et al. "Multi-Granularity Cross-modal Alignment for Generalized Medical Visual Representation Learning",
    NeurIPS 2022, https://arxiv.org/abs/2210.06044. The mean of the two directions, as in the paper (the official
    code takes their sum). Computed in float32 at least, also under autocast. A batch of one has a loss of 0.

    Args:
        temperature: divides the cosines; the paper's tau1.
        gather_distributed: in training mode, take the pairs of all processes as negatives, with gradients. The loss is
            the mean over the own pairs. Processes may have batches of different sizes.

    Raises:
        ValueError: when ``temperature`` is not positive, or the embeddings are not of one shape (B, D).

    Example::

        loss = InstanceAlignmentLoss()
        image = torch.nn.functional.normalize(torch.randn(8, 128), dim=-1)
        report = torch.nn.functional.normalize(torch.randn(8, 128), dim=-1)
        print(loss(image, report))
    """

    def __init__(self, temperature: float = 0.07, gather_distributed: bool = False) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}.")
        self.temperature = temperature
        self.gather_distributed = gather_distributed

    def forward(self, image: torch.Tensor, report: torch.Tensor) -> torch.Tensor:
        """
        Args:
            image: (B, D) unit vectors.
            report: (B, D) unit vectors; row i belongs to row i of ``image``.

        Returns:
            The loss, a scalar.
        """
        if image.ndim != 2 or image.shape != report.shape:
            raise ValueError(f"image and report must both be (B, D), got {tuple(image.shape)}, {tuple(report.shape)}.")
        with full_precision(image, report) as (image, report):
            all_images, all_reports, first = image, report, 0
            if self.gather_distributed and self.training:
                sizes = batch_sizes(len(image))
                all_images, all_reports = all_gather_with_grad(torch.stack((image, report), 1), sizes).unbind(1)
                first = sum(sizes[: rank()])
            target = torch.arange(first, first + len(image), device=image.device)
            to_report = F.cross_entropy(image @ all_reports.T / self.temperature, target)
            to_image = F.cross_entropy(report @ all_images.T / self.temperature, target)
            return (to_report + to_image) / 2
