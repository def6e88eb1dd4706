# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Batch normalization of masked tokens, also over several processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from monai_mgca.utils.dist import world_size
from monai_mgca.utils.precision import full_precision

__all__ = ["MaskedBatchNorm", "SynchronizedBatchNorm", "synchronize_batch_norm"]


class _NormalizeRows(torch.autograd.Function):
    """Rows less their mean over their standard deviation, of all processes' rows that count.

    One exchange in each direction: (count, mean, sum of squares) forward, two sums of gradients backward. Of the rows
    the result alone is kept for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, share: torch.Tensor, eps: float, synchronized: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        Args:
            ctx: of autograd.
            rows: (R, C).
            share: (R,), 1 on rows that count, else 0.
            eps: added to the variance.
            synchronized: take the rows of all processes, of which each has its own R.

        Returns:
            (R, C) rows, then mean (C,), biased variance (C,) and count (1,).
        """
        count = share.sum().unsqueeze(0)
        mean = share @ rows / count.clamp_min(1)
        squares = share @ (rows - mean).square()
        if synchronized:
            parts = rows.new_empty((world_size(), 1 + 2 * len(mean)))
            dist.all_gather(list(parts.unbind()), torch.cat((count, mean, squares)))
            counts, means, squares = parts.split((1, len(mean), len(mean)), dim=1)
            count = counts.sum(0)
            mean = (counts * means).sum(0) / count.clamp_min(1)
            squares = (squares + counts * (means - mean).square()).sum(0)
        variance = squares / count.clamp_min(1)
        scale = torch.rsqrt(variance + eps)
        normalized = (rows - mean).mul_(scale)
        ctx.save_for_backward(normalized, share, scale, count)
        ctx.synchronized = synchronized
        ctx.mark_non_differentiable(mean, variance, count)
        return normalized, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor, *unused: Any) -> tuple[torch.Tensor, None, None, None]:
        normalized, share, scale, count = ctx.saved_tensors
        # rows that do not count are normalized too, so their gradients reach the statistics
        sums = torch.stack((grad.sum(0), (grad * normalized).sum(0)))
        if ctx.synchronized:
            dist.all_reduce(sums)
        through_mean, through_scale = sums / count.clamp_min(1)
        through = torch.addcmul(through_mean, normalized, through_scale).mul_(share[:, None])
        return (grad - through).mul_(scale), None, None, None


def _normalize(norm: _BatchNorm, rows: torch.Tensor, mask: torch.Tensor | None, synchronized: bool) -> torch.Tensor:
    """A step of training of a batch norm on (R, C) rows, with its running statistics."""
    with full_precision(rows) as (rows,):
        share = rows.new_ones(len(rows)) if mask is None else mask.to(rows.dtype)
        output, mean, variance, count = _NormalizeRows.apply(rows, share, norm.eps, synchronized)
        _track(norm, mean, variance, count)
        return output * norm.weight + norm.bias if norm.affine else output


# a function of its own: of a loop with a condition in two "with" torch.compile loses track on Python 3.13
@torch.no_grad()
def _track(norm: Any, mean: torch.Tensor, variance: torch.Tensor, count: torch.Tensor) -> None:
    """Move the running statistics toward those of a batch."""
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    # as torch has it: without a momentum all batches count alike
    rate = norm.momentum if norm.momentum is not None else 1 / norm.num_batches_tracked
    unbiased = variance * count / (count - 1).clamp_min(1)
    for running, current in ((norm.running_mean, mean), (norm.running_var, unbiased)):
        if running is not None:
            # a batch of padding only has no statistics
            momentum = rate * (count > 0).to(running.dtype)
            running.lerp_(current.to(running.dtype), momentum)


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch normalization over rows of which some are padding: those do not enter the statistics.

    Args:
        num_features: C.
        affine: learn a scale and a shift.

    Attributes:
        synchronized: take the statistics over the rows of all processes; see :func:`synchronize_batch_norm`.
    """

    def __init__(self, num_features: int, affine: bool = True) -> None:
        super().__init__(num_features, affine=affine)
        self.synchronized = False

    def forward(self, input: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """
        Args:
            input: (R, C).
            mask: (R,) bool, True on rows that are not padding; all if None.

        Returns:
            (R, C); rows of padding are normalized with the others' statistics.
        """
        if torch.jit.is_scripting():  # what is exported is for evaluation, and knows no super()
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return self._forward(input, mask)

    def _forward(self, input: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        synchronized = self.synchronized and world_size() > 1
        if not self.training or (mask is None and not synchronized):
            return super().forward(input)
        return _normalize(self, input, mask, synchronized)


class SynchronizedBatchNorm(_BatchNorm):
    """torch's ``SyncBatchNorm`` for CPU processes, in which torch's own does not run; arguments and state alike."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"input must be (B, C, ...), got {tuple(input.shape)}.")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, ...) -> (B, C, ...)."""
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        rows = input.movedim(1, -1)
        output = _normalize(self, rows.flatten(0, -2), None, world_size() > 1)
        output = output.to(input.dtype).view(rows.shape).movedim(-1, 1)
        return output.contiguous() if input.is_contiguous() else output


def synchronize_batch_norm(network: nn.Module, device: torch.device | str = "cpu") -> nn.Module:
    """Make all batch norms of a network take their statistics over all processes, in training.

    In place; weights and their names stay. Call it before an optimizer or DDP takes the network.
    ``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` knows no masks and must not be used on MGCA.

    Args:
        network: with batch norms anywhere below it.
        device: where the network will run. On a GPU an encoder's batch norms become torch's ``SyncBatchNorm``.

    Returns:
        The network.

    Raises:
        ValueError: for a batch norm that does more than one, such as timm's with an activation in it.

    Example::

        from monai_mgca.networks.norm import synchronize_batch_norm
        network = synchronize_batch_norm(create_image_encoder("resnet_compact"))
    """
    for name, child in network.named_children():
        if isinstance(child, MaskedBatchNorm):
            child.synchronized = True
        elif isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            if type(child).forward is not _BatchNorm.forward:
                raise ValueError(
                    f"The batch norms of this encoder ({type(child).__name__}) do more than that, and cannot be "
                    "synchronized: leave sync_batch_norm out, or take an encoder with layer norms or torch's batch "
                    "norms, such as resnet50."
                )
            setattr(network, name, _synchronized(child, torch.device(device)))
        else:
            synchronize_batch_norm(child, device)
    return network


def _synchronized(norm: _BatchNorm, device: torch.device) -> _BatchNorm:
    if device.type != "cpu":
        converted: _BatchNorm = nn.SyncBatchNorm.convert_sync_batchnorm(norm)
        return converted
    made = SynchronizedBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for name, value in (*norm.named_parameters(), *norm.named_buffers()):
        setattr(made, name, value)
    return made.train(norm.training)
