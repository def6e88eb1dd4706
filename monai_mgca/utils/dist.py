# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What several processes of one training exchange, by torch.distributed."""

from __future__ import annotations

import gc
import io
import sys
from collections.abc import Sequence
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
import torch.distributed as dist
from torch.autograd.function import once_differentiable

__all__ = [
    "all_gather_with_grad",
    "batch_sizes",
    "gather_plain",
    "leave_group",
    "max_over_processes",
    "rank",
    "unwrap",
    "world_size",
]

# the group for numbers of each group of all processes; both weak, for what keeps a group keeps its threads running
_HOST_GROUPS: WeakKeyDictionary[Any, ref[Any]] = WeakKeyDictionary()
# imported after a group is made, as DDP and ConfigParser do, these keep it as their functions' default argument
_KEEPERS = ("torch.distributed.nn.functional", "torch.distributed.optim.zero_redundancy_optimizer")


def world_size() -> int:
    """The number of processes, 1 where torch.distributed is not initialized."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The rank of this process, 0 where torch.distributed is not initialized."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def unwrap(item: Any) -> Any:
    """Of a network the one within DDP, which one process has as well; all else as it is.

    Args:
        item: a network, or anything else that a training holds.
    """
    return item.module if isinstance(item, torch.nn.parallel.DistributedDataParallel) else item


def _host_group(world: Any) -> Any:
    """A group of all processes for tensors on the CPU: numbers that Python needs must not wait for the GPU."""
    if dist.get_backend(world) == "gloo":
        return world
    made = _HOST_GROUPS.get(world)
    group = None if made is None else made()
    if group is None:
        group = dist.new_group(backend="gloo")  # torch keeps it until it is destroyed
        _HOST_GROUPS[world] = ref(group)
    return group


def leave_group(*members: Any) -> None:
    """Leave the group of processes so that this process can end; do nothing where there is none.

    ``torch.distributed.destroy_process_group`` ends the threads of a group only if nothing refers to it any more. A
    thread of gloo that goes on, and on a busy machine is late in freeing its last tensors, then asks for Python's lock
    while the interpreter ends: "terminate called without an active exception", and exit code 134 after a training that
    went well.

    Args:
        members: networks in ``DistributedDataParallel`` and optimizers in parts, which refer to the group; they can
            take no further step.

    Example::

        leave_group()
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    for member in members:
        for name in ("reducer", "logger", "process_group"):
            if hasattr(member, name):
                setattr(member, name, None)
    for module in filter(None, map(sys.modules.get, _KEEPERS)):
        for function in vars(module).values():
            if isinstance(function, FunctionType) and function.__defaults__:
                values = function.__defaults__
                function.__defaults__ = tuple(None if value is dist.group.WORLD else value for value in values)
    gc.collect()  # members that nobody uses any more
    dist.destroy_process_group()


def batch_sizes(count: int) -> list[int]:
    """How many samples each process has in this step, in the order of the ranks. All processes must call it.

    Args:
        count: samples of this process.
    """
    if world_size() == 1:
        return [count]
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor([count]), group=_host_group(dist.group.WORLD))
    return [int(size) for size in sizes]


def max_over_processes(number: int) -> int:
    """The largest number that any process has. All processes must call it, and wait for each other, not for the GPU.

    Args:
        number: of this process.
    """
    if world_size() == 1:
        return number
    largest = torch.tensor([number])
    dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=_host_group(dist.group.WORLD))
    return int(largest)


def gather_plain(value: Any) -> list[Any]:
    """What each process has, in the order of the ranks. All processes must call it.

    Args:
        value: tensors and plain containers; nothing else is read back.
    """
    if world_size() == 1:
        return [value]
    stream = io.BytesIO()
    torch.save(value, stream)
    content = torch.frombuffer(bytearray(stream.getvalue()), dtype=torch.uint8)
    sizes = batch_sizes(len(content))
    sent = content.new_zeros(max(sizes))
    sent[: len(content)] = content
    parts = [torch.empty_like(sent) for _ in sizes]
    dist.all_gather(parts, sent, group=_host_group(dist.group.WORLD))
    streams = [io.BytesIO(part[:size].numpy().tobytes()) for part, size in zip(parts, sizes, strict=True)]
    return [torch.load(stream, map_location="cpu", weights_only=True) for stream in streams]


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
        ctx.start, ctx.rows = sum(sizes[: rank()]), len(tensor)
        longest = max(sizes)
        # every process must send as much as the others
        sent = tensor.new_zeros(longest, *tensor.shape[1:])
        sent[: len(tensor)] = tensor
        parts = [torch.empty_like(sent) for _ in sizes]
        dist.all_gather(parts, sent)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        grad = grad.clone(memory_format=torch.contiguous_format)
        # every process holds a part of the gradient of every row: sum them, then keep one's own rows
        dist.all_reduce(grad)
        return grad.narrow(0, ctx.start, ctx.rows), None


def all_gather_with_grad(tensor: torch.Tensor, sizes: Sequence[int] | None = None) -> torch.Tensor:
    """Concatenate the rows of all processes in the order of their ranks; gradients flow back to every process.

    Args:
        tensor: (B, ...), of the same shape in every process but for B.
        sizes: B of every process, from :func:`batch_sizes`; asked for if None.

    Returns:
        (sum of all B, ...); the tensor itself where there is one process.
    """
    if world_size() == 1:
        return tensor
    gathered: torch.Tensor = _AllGather.apply(tensor, batch_sizes(len(tensor)) if sizes is None else sizes)
    return gathered
