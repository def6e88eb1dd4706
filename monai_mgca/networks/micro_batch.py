# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Encodes a batch in parts without keeping their activations, with the gradients of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

__all__ = ["check_micro_batches", "encode_in_micro_batches"]


def check_micro_batches(*encoders: nn.Module) -> None:
    """Refuse encoders whose output for an image depends on the other images of its micro-batch.

    Args:
        encoders: batch norms in them must be in evaluation mode.

    Raises:
        ValueError: when a batch norm takes its statistics from the batch.
    """
    for encoder in encoders:
        norms = [m for m in encoder.modules() if isinstance(m, _BatchNorm)]
        if any(norm.training or norm.running_mean is None for norm in norms):
            raise ValueError(
                f"micro_batch_size is not exact with {type(encoder).__name__}: its batch norm would take mean and"
                " variance from each micro-batch in place of the batch, and move its running statistics twice a step."
                " Train a ViT, keep the encoder's batch norm in evaluation mode, or set micro_batch_size to 0."
            )


def encode_in_micro_batches(encoder: nn.Module, size: int, *inputs: torch.Tensor) -> Sequence[Any]:
    """Run an encoder on a part of the batch at a time, without keeping the parts' graphs.

    The backward pass runs each part once more, with the dropout of its first run (the states of the random number
    generators are kept) and the same autocast, and takes its gradients before the next part's: the gradients are
    those of one graph, and the memory of the encoder's graph is that of one part. All that comes behind the encoder,
    such as losses that compare all pairs, sees the whole batch.

    Args:
        encoder: gives a tuple of (B, ...) tensors, or None in their place.
        size: samples in a part; 0, or a batch that is not larger, runs at once.
        inputs: (B, ...) tensors.

    Returns:
        What the encoder gives for the whole batch.

    Raises:
        ValueError: when a batch norm in training mode makes the parts depend on each other's company.

    Example::

        from monai_mgca.networks import ViTImageEncoder
        encoder = ViTImageEncoder(image_size=32, hidden_size=48, mlp_dim=96, num_layers=2, num_heads=3)
        pooled, tokens, attention = encode_in_micro_batches(encoder, 2, torch.rand(5, 1, 32, 32))
    """
    if not size or len(inputs[0]) <= size:
        output: Sequence[Any] = encoder(*inputs)
        return output
    check_micro_batches(encoder)
    parts = zip(*(x.split(size) for x in inputs), strict=True)
    if torch.is_grad_enabled():
        # parts are replayed last to first, each to its end: the newer part of a graph goes first in the backward pass
        outputs = [checkpoint(encoder, *part, use_reentrant=False) for part in parts]
    else:
        outputs = [encoder(*part) for part in parts]
    return [None if fields[0] is None else torch.cat(fields) for fields in zip(*outputs, strict=True)]
