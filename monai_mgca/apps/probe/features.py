# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Features of a whole data set by a frozen encoder."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from monai.networks import eval_mode
from monai.utils import CommonKeys
from torch import nn

from monai_mgca.utils.progress import progress_bar

__all__ = ["compute_features"]


def compute_features(
    encoder: nn.Module,
    loader: Collection[Mapping[str, torch.Tensor]],
    device: torch.device | str = "cpu",
    description: str = "features",
) -> torch.Tensor:
    """The pooled features of every image, computed once, as :class:`monai_mgca.networks.RadiographClassifier` has them.

    Args:
        encoder: :class:`ViTImageEncoder` or :class:`ResNetImageEncoder`; it computes as in evaluation.
        loader: batches with "image" (B, in_channels, H, W), in a fixed order.
        device: where to compute.
        description: text before the progress bar.

    Returns:
        (N, C), float32, on the CPU.

    Example::

        encoder = create_image_encoder("resnet_compact")
        print(compute_features(encoder, [{"image": torch.rand(2, 1, 64, 64)}]).shape)  # (2, 256)
    """
    encoder = encoder.to(device)
    parts = []
    with eval_mode(encoder):
        for batch in progress_bar(loader, description, len(loader)):
            pooled = encoder(torch.as_tensor(batch[CommonKeys.IMAGE], device=device)).pooled
            parts.append(pooled.float().cpu())
    return torch.cat(parts)
