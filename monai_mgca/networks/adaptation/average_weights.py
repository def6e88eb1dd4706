# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The moving average of a network's weights, by torch."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from monai_mgca.utils.dist import unwrap

__all__ = ["average_weights"]


def average_weights(network: nn.Module, decay: float) -> AveragedModel | None:
    """A copy of a network for the exponential moving average of its weights; buffers are those of the newest step.

    The average of the first step is its weights. What is frozen stays exactly what it is.

    Args:
        network: as it is trained, in DDP or not, on its device.
        decay: how much of the average a step keeps, such as 0.999; 0: none, and there is no average.

    Example::

        average = average_weights(torch.nn.Linear(2, 2), decay=0.99)
        average.update_parameters(torch.nn.Linear(2, 2))
    """
    if decay == 0:
        return None
    bare = unwrap(network)
    average = AveragedModel(bare, multi_avg_fn=get_ema_multi_avg_fn(decay))
    return average.requires_grad_(False)
