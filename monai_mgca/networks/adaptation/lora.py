# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Adapters of low rank (LoRA) by peft, beside the frozen weights of a tower, and the weights with them merged in."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator
from logging import getLogger
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from monai_mgca.networks.adaptation.choose_layers import LARGEST_SHARE, choose_layers
from monai_mgca.networks.adaptation.locking import hold_in_evaluation
from monai_mgca.networks.adaptation.tower_groups import tower_body
from monai_mgca.utils.dist import unwrap
from monai_mgca.utils.errors import OptionError
from monai_mgca.utils.extras import require_extra

__all__ = ["MergedWeights", "add_adapters", "has_adapters", "merged_state"]

logger = getLogger(__name__)

ADAPTER = "default"  # peft's name for the only one


def add_adapters(encoder: nn.Module, rank: int, *inputs: torch.Tensor, tower: str = "image") -> float:
    """Freeze a tower, and put adapters of low rank beside its layers: what it computes is at first unchanged.

    Hu et al. "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, https://arxiv.org/abs/2106.09685. Which
    layers: :func:`choose_layers`. Norms are frozen with all else, batch norm's statistics too; dropout is as in any
    training. The adapters' outputs count double (``lora_alpha`` is twice the rank).

    Args:
        encoder: of any library, with the weights that it starts from.
        rank: of the adapters.
        inputs: a batch of one, which the encoder is called with once to see which layers it calls.
        tower: "image" or "report", for messages.

    Returns:
        The adapters' part of the tower's weights.

    Raises:
        DataError: when peft is not installed.
        OptionError: when the tower has no layer that could be adapted.

    Example::

        from monai_mgca.networks import create_image_encoder
        print(add_adapters(create_image_encoder("vit_compact", image_size=64), 2, torch.zeros(1, 1, 64, 64)) < 0.02)
    """
    require_extra("peft", "lora_rank", "peft")
    from peft import LoraConfig, inject_adapter_in_model

    body = tower_body(encoder)
    weights = sum(parameter.numel() for parameter in body.parameters())
    try:
        names = choose_layers(encoder, body, rank, *inputs)
    except ValueError as error:
        raise OptionError(f"lora_towers has {tower}: {error} Leave it out there.") from error
    # all of a name: of a list, peft takes each for the end of one
    targets = "|".join(map(re.escape, names))
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets), body)
    # what has no part in the features was frozen before, and is by peft
    hold_in_evaluation(part for part in body.modules() if isinstance(part, _BatchNorm))
    share = sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad) / weights
    found = f"The {tower} encoder is adapted by LoRA of rank {rank} in {len(names)} layers: {share:.2%} of its weights"
    if share < LARGEST_SHARE:
        logger.info(f"{found} are trained.")
    else:
        logger.warning(f"{found} are trained, for it is small. A lower lora_rank trains less.")
    return share


def _adapted_layers(network: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, part in network.named_modules():
        if hasattr(part, "lora_A") and hasattr(part, "base_layer"):
            yield name, part


def has_adapters(network: nn.Module) -> bool:
    """Whether any layer of a network has an adapter.

    Args:
        network: any.
    """
    return next(_adapted_layers(network), None) is not None


@torch.no_grad()
def merged_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a network by their usual names, with its adapters merged in; the network stays as it is.

    Args:
        network: with or without adapters, in DDP or not.

    Returns:
        What its ``state_dict`` is without adapters.

    Example::

        from monai_mgca.networks import create_image_encoder
        encoder, plain = (create_image_encoder("vit_compact", image_size=64) for _ in range(2))
        add_adapters(encoder, 2, torch.zeros(1, 1, 64, 64))
        print(plain.load_state_dict(merged_state(encoder)))  # <All keys matched successfully>
    """
    bare = unwrap(network)
    state: dict[str, torch.Tensor] = bare.state_dict()
    layers = dict(_adapted_layers(bare))
    if not layers:
        return state
    merged = OrderedDict()
    for key, value in state.items():
        name, inside, rest = _split(key, layers)
        if name is None:
            merged[key] = value
        elif inside == "base_layer":
            if rest == "weight":
                value = value + layers[name].get_delta_weight(ADAPTER).to(value.dtype)
            merged[f"{name}.{rest}"] = value
    return merged


def _split(key: str, layers: dict[str, Any]) -> tuple[str | None, str, str]:
    """The adapted layer of a tensor, the part of the layer, and what it is called there; None of any other tensor."""
    parts = key.split(".")
    for place in range(1, len(parts)):
        if (name := ".".join(parts[:place])) in layers:
            return name, parts[place], ".".join(parts[place + 1 :])
    return None, "", ""


class MergedWeights:
    """A network as savers take it, whose state is its weights with the adapters merged in.

    Args:
        network: of :func:`merged_state`.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def state_dict(self) -> dict[str, torch.Tensor]:
        """See :func:`merged_state`."""
        return merged_state(self.network)
