# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Word pieces to words, forward and backward, of reports of 38 to 51 pieces padded to 112.

Run by `python benchmarks/aggregation.py`. Beside ours a loop over each report that ends where the report does, and a
product with a matrix of ones and zeros.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from harness import alternate, differences, peak_memory, print_table
from plain import plain_aggregate
from vectorized import one_hot_aggregate

from monai_mgca.networks import aggregate_words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    sizes = {"batch": 64, "length": 112, "shortest": 38, "longest": 51, "channels": 768}
    sizes |= {"threads": 1, "repeats": 9, "seed": 0}
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=value, help="(default: %(default)s)")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(args.seed)
    pieces = torch.randn(args.batch, args.length, args.channels, generator=generator).to(args.device).requires_grad_()
    attention = torch.rand(args.batch, args.length, generator=generator).to(args.device)
    # two of three pieces open a word; [CLS], [SEP] and padding belong to none
    opens = torch.rand(args.batch, args.length, generator=generator) < 2 / 3
    opens[:, 0], opens[:, 1] = False, True
    lengths = torch.randint(args.shortest, args.longest + 1, (args.batch,), generator=generator)
    place = torch.arange(args.length)
    inside = (place > 0) & (place < lengths[:, None] - 1)
    word_ids = torch.where(inside, opens.long().cumsum(1), 0).sub(1).to(args.device)
    grad = torch.randn(args.batch, args.length - 1, args.channels, generator=generator).to(args.device)
    values = {}

    def step(name: str, aggregate: Callable) -> Callable[[], None]:
        def run() -> None:
            words, weights = aggregate(pieces, attention, word_ids, args.length - 1)[:2]
            values[name] = [words.detach(), weights, *torch.autograd.grad(words, pieces, grad)]

        return run

    ways = {
        "loop": step("loop", plain_aggregate),
        "one-hot": step("one-hot", one_hot_aggregate),
        "monai_mgca": step("monai_mgca", aggregate_words),
    }
    seconds = alternate(ways, args.device, args.repeats, slow_repeats=3)
    memory = {name: peak_memory(way, args.device) for name, way in ways.items() if name != "loop"}
    reports = f"{args.shortest} to {args.longest} of {args.length} pieces"
    print(f"batch {args.batch}, {reports} of {args.channels} channels, {args.threads} thread(s)")
    for name in ("one-hot", "loop"):
        print(f"{seconds[name] / seconds['monai_mgca']:.1f} times as fast as {name}")
    print_table(seconds, memory)
    for label, value in zip(
        ("words", "attention", "gradient"), differences(values["loop"], values["monai_mgca"]), strict=True
    ):
        print(f"greatest difference, {label}: {value:.1e}")


if __name__ == "__main__":
    main()
