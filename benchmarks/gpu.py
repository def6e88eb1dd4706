# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""The whole list of measurements on one GPU, for the few minutes that one is rented: one Markdown table.

Training steps of the paper's networks in bfloat16, losses beside both baselines, a step that may not wait for the GPU,
a training that is stopped and resumed, channels-last, micro-batches, the loader, volumes, figures of whole sets,
torch.compile. A row that fails, for lack of memory say, gives its reason, and the others go on; what the budget leaves
no time for is named. The parts are in gpu_steps.py and gpu_parts.py.

    python benchmarks/gpu.py --output gpu.md                # under eight minutes on a data center's GPU
    python benchmarks/gpu.py --device cpu --small           # seconds: does it run?
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from gpu_parts import checks, codes_and_ranks, loader, losses
from gpu_steps import Row, compiled, micro_batches, resnet, steps, volumes

from monai_mgca import __version__

# what matters most comes first
PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "step": steps,
    "losses": losses,
    "checks": checks,
    "ResNet": resnet,
    "micro-batches": micro_batches,
    "loader": loader,
    "volumes": volumes,
    "whole sets": codes_and_ranks,
    "torch.compile": compiled,
}
FULL = {
    **{
        "image_encoder": "vit_base",
        "image_size": 224,
        "hidden": 768,
        "layers": 12,
        "length": 112,
        "batches": (72, 144),
    },
    **{"resnet": "resnet50", "volume_encoder": "resnet18", "volume_size": 160, "volume_batch": 16, "micro_batch": 24},
    **{"words": 111, "shortest": 36, "longest": 49, "loop_batch": 4, "patches": (196, 361), "prototypes": 500},
    **{"pairs": 100_000, "codes": (4096, 3000), "pixels": 1024, "images": 96, "loader_batches": 40, "repeats": 10},
    **{"dim": 128, "seed": 0, "spatial_dims": 2, "compiler": "inductor"},
}
SMALL = {
    **{"image_encoder": "vit_compact", "image_size": 32, "hidden": 64, "layers": 1, "length": 16, "batches": (4, 6)},
    **{
        "resnet": "resnet_tiny",
        "volume_encoder": "resnet_tiny",
        "volume_size": 16,
        "volume_batch": 2,
        "micro_batch": 2,
    },
    **{"words": 15, "shortest": 5, "longest": 9, "loop_batch": 2, "patches": (9,), "prototypes": 12},
    **{"pairs": 300, "codes": (40, 30), "pixels": 64, "images": 8, "loader_batches": 4, "repeats": 1},
    "compiler": "eager",
}


def measure(
    args: argparse.Namespace, parts: Mapping[str, Callable[[argparse.Namespace], Iterator[Row]]] = PARTS
) -> list[Row]:
    """The rows of all parts, until the budget is used up; where one fails, its reason."""
    rows: list[Row] = []
    start = time.perf_counter()
    for name, part in parts.items():
        try:
            found = part(args)
            while time.perf_counter() - start < args.budget:
                row = next(found, None)
                if row is None:
                    break
                rows.append(row)
                print(f"{time.perf_counter() - start:5.0f} s  {row.line()}", file=sys.stderr, flush=True)
            else:
                rows.append(Row(name, note=f"no further row: the {args.budget:g} s of --budget are used up"))
        except Exception as error:  # of any kind: the GPU is rented, and the other rows are wanted
            reason = " ".join(str(error).strip().splitlines()[:1])
            rows.append(Row(name, note=f"failed: {type(error).__name__}: {reason}"))
            print(rows[-1].line(), file=sys.stderr, flush=True)
        found = None  # with what it held
        gc.collect()
        if args.device.type == "cuda":
            torch.cuda.empty_cache()
    return rows


def machine(device: torch.device) -> str:
    """Its name, and the versions that count."""
    name = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} thread(s)"
    if device.type == "cuda":
        name = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return f"{name}, torch {torch.__version__}, monai_mgca {__version__}, {time.strftime('%Y-%m-%d')}"


def table(rows: list[Row], args: argparse.Namespace, seconds: float) -> str:
    """All rows as Markdown."""
    lines = [
        f"{machine(args.device)}; {seconds:.0f} s for all{', small sizes that measure nothing' if args.small else ''}.",
        "Medians; MiB is what is allocated at most, on a GPU with weights and optimizer.",
        "",
        "| what | with | ms | a second | MiB | |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(row.line() for row in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--small", action="store_true", help="tiny networks, to see that all runs")
    parser.add_argument("--budget", type=float, default=360, help="seconds after which no row begins (default: 360)")
    parser.add_argument("--workers", type=int, help="of the loader (default: all cores, at most 16)")
    parser.add_argument("--output", type=Path, help="write the table there too")
    args = parser.parse_args()
    if args.device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here that torch can use: --device cpu --small tries what runs without one")
    for name, value in {**FULL, **(SMALL if args.small else {})}.items():
        setattr(args, name, value)
    # for the training that is resumed: it is read when the GPU is first used
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    start = time.perf_counter()
    found = table(measure(args), args, time.perf_counter() - start)
    print(found)
    if args.output:
        args.output.write_text(found + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
