# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Training steps that gpu.py measures, and the row that each becomes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from harness import alternate, peak_memory
from step import encoders_alone, make_batch, make_network

from monai_mgca.losses import MGCALoss
from monai_mgca.networks import MGCA

__all__ = ["Row", "compiled", "make", "micro_batches", "resnet", "steps", "training_step", "volumes"]


class Row(NamedTuple):
    """One line of the table: milliseconds, what is done in a second, and MiB, where they were measured."""

    what: str
    setting: str = ""
    seconds: float | None = None
    count: int = 0
    unit: str = ""
    memory: float | None = None
    note: str = ""

    def line(self) -> str:
        ms = "" if self.seconds is None else f"{1000 * self.seconds:,.1f}"
        rate = "" if self.seconds is None or not self.count else f"{self.count / self.seconds:,.0f} {self.unit}"
        memory = "" if self.memory is None else f"{self.memory:,.0f}"
        cells = (self.what, self.setting, ms, rate, memory, self.note.replace("|", "/")[:160])
        return f"| {' | '.join(cells)} |"


def make(args: argparse.Namespace, batch: int, **changes: object) -> tuple[MGCA, tuple[torch.Tensor, ...]]:
    """A network and a batch of pairs on the device."""
    own = argparse.Namespace(**{**vars(args), "batch": batch, **changes})
    return make_network(own), make_batch(own)


def training_step(network: Callable, parameters: MGCA, batch: tuple[torch.Tensor, ...]) -> Callable[[], None]:
    """Forward, backward and the optimizer's step, in bfloat16.

    Args:
        network: computes; compiled, say.
        parameters: the network whose weights are trained.
        batch: what it is given.
    """
    device = batch[0].device
    optimizer = torch.optim.AdamW(parameters.parameters(), lr=2e-5, weight_decay=0.05, fused=device.type == "cuda")
    loss = MGCALoss()

    def run() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            value = loss(network(*batch))
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def in_bfloat16(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    def run() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            step()

    return run


def timed(args: argparse.Namespace, step: Callable[[], None]) -> tuple[float, float]:
    """Seconds, and MiB with what was there before."""
    seconds = alternate({"": step}, args.device, args.repeats)[""]
    held = torch.cuda.memory_allocated(args.device) / 2**20 if args.device.type == "cuda" else 0
    return seconds, held + peak_memory(step, args.device)


def towers(args: argparse.Namespace, batch: int) -> str:
    return f"{args.image_encoder} at {args.image_size}, BERT of {args.layers} layers, batch {batch}, bf16"


def steps(args: argparse.Namespace) -> Iterator[Row]:
    """The whole step, and both encoders alone."""
    for count in args.batches:
        network, batch = make(args, count)
        seconds, memory = timed(args, training_step(network, network, batch))
        yield Row("training step", towers(args, count), seconds, count, "pairs", memory)
        alone, memory = timed(args, in_bfloat16(encoders_alone(network, batch), args.device))
        share = f"without optimizer: {100 * alone / seconds:.0f} % of the step"
        yield Row("encoders alone", towers(args, count), alone, count, "pairs", memory, share)


def resnet(args: argparse.Namespace) -> Iterator[Row]:
    """The step with a ResNet, in both memory formats."""
    count = args.batches[-1]
    for name, layout in (("contiguous", torch.contiguous_format), ("channels-last", torch.channels_last)):
        network, (image, *report) = make(args, count, image_encoder=args.resnet)
        network = network.to(memory_format=layout)
        batch = (image.contiguous(memory_format=layout), *report)
        seconds, memory = timed(args, training_step(network, network, batch))
        setting = f"{args.resnet}, batch {count}, bf16, {name}"
        yield Row("training step", setting, seconds, count, "pairs", memory)


def micro_batches(args: argparse.Namespace) -> Iterator[Row]:
    """The step whose encoders take a part of the batch at a time."""
    count = args.batches[-1]
    network, batch = make(args, count)
    network.micro_batch_size = args.micro_batch
    seconds, memory = timed(args, training_step(network, network, batch))
    setting = f"{towers(args, count)}, micro-batches of {args.micro_batch}"
    yield Row("training step", setting, seconds, count, "pairs", memory)


def volumes(args: argparse.Namespace) -> Iterator[Row]:
    """The step with a 3D encoder."""
    sizes = {"image_encoder": args.volume_encoder, "image_size": args.volume_size, "spatial_dims": 3}
    network, (image, *report) = make(args, args.volume_batch, **sizes)
    network = network.to(memory_format=torch.channels_last_3d)
    batch = (image.contiguous(memory_format=torch.channels_last_3d), *report)
    seconds, memory = timed(args, training_step(network, network, batch))
    setting = f"{args.volume_encoder} at {args.volume_size} cubed, batch {args.volume_batch}, bf16, channels-last"
    yield Row("3D training step", setting, seconds, args.volume_batch, "volumes", memory)


def compiled(args: argparse.Namespace) -> Iterator[Row]:
    """The step by torch.compile, which takes a minute before the first."""
    count = args.batches[-1]
    network, batch = make(args, count)
    seconds, memory = timed(args, training_step(torch.compile(network, backend=args.compiler), network, batch))
    setting = f"{towers(args, count)}, torch.compile ({args.compiler})"
    yield Row("training step", setting, seconds, count, "pairs", memory)
