# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Learning rates that fall with the depth of a tower: the earlier a block, the slower it learns."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from torch import nn

from monai_mgca.networks.adaptation.tower_groups import find_groups, tower_body
from monai_mgca.utils.dist import unwrap
from monai_mgca.utils.errors import OptionError

__all__ = ["parameter_groups"]


def parameter_groups(network: nn.Module, learning_rate: float, layer_decay: float = 1) -> list[Any]:
    """What an optimizer trains: each block or stage of the two towers at its own learning rate.

    The projections and all else learn at ``learning_rate``, the last block of a tower at ``layer_decay`` times that,
    the one before at its square, and so on to the stem: the scales of timm and BEiT, whose head is our projection. The
    rates of the schedule are scaled alike.

    Args:
        network: :class:`monai_mgca.networks.MGCA`, or in DDP.
        learning_rate: of the optimizer.
        layer_decay: above 0 to 1; 1: one rate for all.

    Returns:
        The parameters that are trained; with a decay a dictionary for each rate, the highest first.

    Raises:
        OptionError: when a tower has no blocks or stages.

    Example::

        from monai_mgca.networks import MGCA, ReportEncoder, create_image_encoder
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        network = MGCA(create_image_encoder("resnet_compact"), ReportEncoder({"vocab_size": 50, **sizes}))
        optimizer = torch.optim.AdamW(parameter_groups(network, 1e-4, layer_decay=0.5), lr=1e-4)
        print([group["lr"] for group in optimizer.param_groups][:3])  # [0.0001, 5e-05, 2.5e-05]
    """
    if layer_decay == 1:
        return [parameter for parameter in network.parameters() if parameter.requires_grad]
    bare = unwrap(network)
    depths: dict[int, int] = {}
    for encoder in (bare.image_encoder, bare.report_encoder):
        if not any(parameter.requires_grad for parameter in encoder.parameters()):
            continue
        try:
            groups = find_groups(encoder)
        except ValueError as error:
            raise OptionError(f"layer_decay is {layer_decay}: {error}") from error
        body = tower_body(encoder)
        for depth, group in enumerate(reversed(groups), 1):
            depths.update({id(body.get_parameter(name)): depth for name in group.parameters})
    rates: dict[int, list[nn.Parameter]] = defaultdict(list)
    for parameter in bare.parameters():
        if parameter.requires_grad:
            rates[depths.get(id(parameter), 0)].append(parameter)
    return [{"params": rates[depth], "lr": learning_rate * layer_decay**depth} for depth in sorted(rates)]
