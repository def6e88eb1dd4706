# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Chooses the layers of a tower that get adapters, so that these stay a small part of its weights."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

__all__ = ["LARGEST_SHARE", "adapter_size", "choose_layers"]

LARGEST_SHARE = 0.02
# of the weights of all layers that could get an adapter: less would leave the network as it is
LEAST_COVER = 0.5
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def choose_layers(encoder: nn.Module, body: nn.Module, rank: int, *inputs: torch.Tensor) -> list[str]:
    """The names of the layers that get an adapter: all linear layers and convolutions, or the kinds that are worth it.

    Kinds of layers (of one kernel and one ratio of outputs to inputs) whose adapters are large beside their weights
    are left out, the worst first, until less than 2 % of the tower's weights would train. Where the rest would be less
    than half of these layers' weights, as in a small network, all get one. None get a convolution that is the first
    layer, depthwise convolutions, layers of which the network reads the weights without calling them, and such that
    nothing depends on.

    Args:
        encoder: an image or report encoder.
        body: the network within it, by whose names the layers are called.
        rank: of the adapters.
        inputs: a batch of one, which the encoder is called with once.

    Raises:
        ValueError: when there is no layer that could get one.
    """
    layers = _called_layers(encoder, body, inputs)
    if not layers:
        raise ValueError(
            f"{type(body).__name__} has no linear layer, and no convolution behind its first, that could be adapted."
        )
    kinds: dict[tuple[Any, ...], dict[str, nn.Module]] = defaultdict(dict)
    for name, layer in layers.items():
        kinds[_kind_of(layer)][name] = layer
    worth = {kind: _weights(group) / _adapters(group, rank) for kind, group in kinds.items()}
    limit = LARGEST_SHARE * sum(parameter.numel() for parameter in body.parameters())
    kept = sorted(kinds, key=worth.__getitem__)
    while kept and sum(_adapters(kinds[kind], rank) for kind in kept) >= limit:
        del kept[0]
    if sum(_weights(kinds[kind]) for kind in kept) < LEAST_COVER * _weights(layers):
        kept = list(kinds)
    chosen = {name for kind in kept for name in kinds[kind]}
    return [name for name in layers if name in chosen]


def adapter_size(layer: Any, rank: int) -> int:
    """How many weights an adapter of a layer has.

    Args:
        layer: linear or a convolution.
        rank: of the adapter.
    """
    outputs, *inputs = layer.weight.shape
    return int(rank * (math.prod(inputs) + outputs))


def _adapters(group: Mapping[str, nn.Module], rank: int) -> int:
    return sum(adapter_size(layer, rank) for layer in group.values())


def _weights(group: Mapping[str, Any]) -> int:
    return sum(layer.weight.numel() for layer in group.values())


def _kind_of(layer: Any) -> tuple[Any, ...]:
    outputs, inputs, *kernel = layer.weight.shape
    return (type(layer), *kernel, outputs / inputs)


def _called_layers(encoder: nn.Module, body: nn.Module, inputs: tuple[torch.Tensor, ...]) -> dict[str, nn.Module]:
    """The layers that could get an adapter, in the order of their names."""
    called: list[nn.Module] = []

    def remember(module: nn.Module, *_: Any) -> None:
        called.append(module)

    # of exactly these types: a subclass computes something else
    known = {name: part for name, part in body.named_modules() if type(part) in (nn.Linear, *_CONVOLUTIONS)}
    handles = [part.register_forward_hook(remember) for part in known.values()]
    training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            encoder(*inputs)
    finally:
        encoder.train(training)
        for handle in handles:
            handle.remove()
    stem = called[0] if called and isinstance(called[0], _CONVOLUTIONS) else None
    reached = {id(part) for part in called if part is not stem}
    return {
        name: part
        for name, part in known.items()
        if id(part) in reached and part.weight.requires_grad and getattr(part, "groups", 1) == 1
    }
