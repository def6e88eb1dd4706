# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""How the alignment losses grow: with the batch, with the image tokens of a sample, and over processes.

Every row is forward and backward of the losses (see losses.py), time and peak memory; over processes the batch is
split, instance and prototype terms gather, and the time is that of the slowest.

    python benchmarks/scaling.py --plot docs/images/scaling.png
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from harness import alternate, peak_memory
from losses import LEAVES, alignment, make_inputs

from monai_mgca.losses import InstanceAlignmentLoss, MGCALoss, PrototypeAlignmentLoss

BATCHES = (8, 16, 32, 64, 128, 256)
TOKENS = (196, 784, 3136, 13824)
PROCESSES = (1, 2, 4)


def measure(args: argparse.Namespace, **sizes: int) -> tuple[float, float]:
    """Seconds and MiB of a step with these sizes."""
    torch.set_num_threads(args.threads)
    inputs = make_inputs(argparse.Namespace(**{**vars(args), **sizes}))
    leaves = [inputs[name].requires_grad_() for name in LEAVES]
    loss = MGCALoss()

    def step() -> None:
        torch.autograd.grad(alignment(inputs, loss, contexts=False), leaves)

    return alternate({"": step}, args.device, args.repeats)[""], peak_memory(step, args.device)


def one_process(rank: int, world: int, args: argparse.Namespace, port: int, results: list) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    inputs = make_inputs(argparse.Namespace(**{**vars(args), "batch": args.batch // world, "seed": rank}))
    leaves = [inputs[name].requires_grad_() for name in LEAVES]
    loss = MGCALoss(
        instance=InstanceAlignmentLoss(gather_distributed=True),
        prototype=PrototypeAlignmentLoss(gather_distributed=True),
    )
    seconds = []
    for _ in range(args.repeats + 1):
        dist.barrier()
        start = time.perf_counter()
        torch.autograd.grad(alignment(inputs, loss, contexts=False), leaves)
        dist.barrier()
        seconds.append(time.perf_counter() - start)
    if rank == 0:
        results.append(sorted(seconds[1:])[args.repeats // 2])
    dist.destroy_process_group()


def over_processes(world: int, args: argparse.Namespace) -> float:
    with multiprocessing.Manager() as manager:
        results = manager.list()
        port = 20000 + torch.randint(20000, ()).item()
        multiprocessing.spawn(one_process, (world, args, port, results), nprocs=world)
        return float(results[0])


def draw(rows: dict[str, list[tuple[int, float, float]]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.1), dpi=110)
    for ax, (name, found) in zip(axes, rows.items(), strict=True):
        places = [row[0] for row in found]
        ax.plot(places, [1000 * row[1] for row in found], "o-", color="#2b6cb0", label="ms")
        if name != "processes":
            ax.plot(places, [row[2] for row in found], "s--", color="#2f855a", label="MiB at the peak")
            ax.set(xscale="log", yscale="log")
        ax.set(xlabel=name, xticks=places)
        ax.set_xticklabels([f"{place:,}" for place in places])
        ax.minorticks_off()
        ax.legend(frameon=False)
        ax.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"batch": 64, "patches": 196, "words": 111, "shortest": 22, "longest": 111, "dim": 128, "prototypes": 500}
    for name, value in {**sizes, "threads": 1, "repeats": 5, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value, help="(default: %(default)s)")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--plot", type=Path, help="write a picture")
    args = parser.parse_args()
    rows: dict[str, list[tuple[int, float, float]]] = {
        "batch": [(count, *measure(args, batch=count)) for count in BATCHES],
        "image tokens of a sample, batch 2": [(count, *measure(args, batch=2, patches=count)) for count in TOKENS],
        "processes": [(count, over_processes(count, args), 0.0) for count in PROCESSES],
    }
    for name, found in rows.items():
        print(f"\n| {name} | ms | ms of each | MiB |\n|---|---|---|---|")
        for count, seconds, memory in found:
            shown = f"{memory:.1f}" if memory else ""
            print(f"| {count:,} | {1000 * seconds:.1f} | {1000 * seconds / count:.3f} | {shown} |")
    if args.plot:
        draw(rows, args.plot)
        print(f"\nWritten: {args.plot}")


if __name__ == "__main__":
    main()
