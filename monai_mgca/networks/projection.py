# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The projection from an encoder's features to the common embedding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from monai_mgca.networks.norm import MaskedBatchNorm

__all__ = ["ProjectionHead"]


class ProjectionHead(nn.Module):
    """Maps an encoder's features to unit vectors: linear, batch norm, ReLU, linear, batch norm without affine.

    One class serves global features and tokens: a 1x1 convolution over tokens is a linear map of each.

    Args:
        in_channels: C, channels of the features.
        hidden_dim: channels between the two linear maps.
        embed_dim: D, size of the embedding.

    Example::

        head = ProjectionHead(768)
        print(head(torch.randn(4, 768)).shape, head(torch.randn(4, 196, 768)).shape)
    """

    def __init__(self, in_channels: int, hidden_dim: int = 2048, embed_dim: int = 128) -> None:
        super().__init__()
        self.linear1 = nn.Linear(in_channels, hidden_dim)
        self.norm1 = MaskedBatchNorm(hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, embed_dim)
        self.norm2 = MaskedBatchNorm(embed_dim, affine=False)

    def project(self, features: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """The embedding before it is scaled to unit length; arguments as those of :meth:`forward`."""
        rows = features.flatten(0, -2)
        flat = None if mask is None else mask.flatten()
        rows = self.norm1(self.linear1(rows), flat).relu()
        rows = self.norm2(self.linear2(rows), flat)
        return rows.unflatten(0, features.shape[:-1]) if features.ndim > 2 else rows

    def forward(self, features: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """
        Args:
            features: (B, C), or (B, N, C) for tokens.
            mask: (B, N) bool for tokens, True where there is one; padding does not enter the batch statistics.

        Returns:
            (B, D) or (B, N, D) unit vectors in float32 at least.
        """
        rows = self.project(features, mask)
        return F.normalize(rows.to(torch.promote_types(rows.dtype, torch.float32)), dim=-1)
