# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Locks or adapts the towers of MGCA, before an optimizer or DDP takes the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.utils import ensure_tuple_rep
from torch import nn

from monai_mgca.networks.adaptation.locking import lock_tower
from monai_mgca.networks.adaptation.lora import add_adapters

__all__ = ["adapt_towers"]

# tokens of the report on which a tower is tried out
TRIED = 6


def adapt_towers(
    network: nn.Module,
    locked: Mapping[str, int] | None = None,
    lora_rank: int = 0,
    lora_towers: Sequence[str] = (),
    image_size: Sequence[int] | int = 224,
    in_channels: int = 1,
) -> None:
    """Lock towers or put adapters into them; projections, matchers and prototypes are trained in any case.

    Call it when the weights are loaded, and before an optimizer or DDP takes the network.

    Args:
        network: :class:`monai_mgca.networks.MGCA`, not wrapped.
        locked: for each tower to be locked, "image" or "report", how many of its last groups are trained: see
            :func:`lock_tower`.
        lora_rank: of the adapters; 0: none.
        lora_towers: the towers that get them: see :func:`add_adapters`.
        image_size: pixels of the images.
        in_channels: their channels.

    Raises:
        OptionError: when a tower cannot be locked or adapted like that.

    Example::

        from monai_mgca.networks import MGCA, ReportEncoder, create_image_encoder
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        network = MGCA(create_image_encoder("resnet_compact"), ReportEncoder({"vocab_size": 50, **sizes}))
        adapt_towers(network, {"image": 2, "report": 0})
        print(any(parameter.requires_grad for parameter in network.report_encoder.parameters()))  # False
    """
    towers: dict[str, Any] = {"image": network.image_encoder, "report": network.report_encoder}
    for tower, unlocked in (locked or {}).items():
        lock_tower(towers[tower], unlocked, tower)
    for tower in lora_towers if lora_rank else ():
        encoder = towers[tower]
        device = next(encoder.parameters()).device
        inputs = _report() if tower == "report" else (_image(encoder, image_size, in_channels),)
        add_adapters(encoder, lora_rank, *(tensor.to(device) for tensor in inputs), tower=tower)


def _image(encoder: Any, image_size: Sequence[int] | int, in_channels: int) -> torch.Tensor:
    kernels = (part.weight.ndim - 2 for part in encoder.modules() if isinstance(part, nn.modules.conv._ConvNd))
    return torch.zeros(1, in_channels, *ensure_tuple_rep(image_size, next(kernels, 2)))


def _report() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.arange(1, TRIED + 1)[None]
    return ids, torch.ones_like(ids)
