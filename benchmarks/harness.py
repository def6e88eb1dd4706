# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of speed share: alternating runs in one process, peak memory, differences, a table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch.profiler import ProfilerActivity, profile

__all__ = ["alternate", "differences", "peak_memory", "print_table"]

Step = Callable[[], object]


def _seconds(step: Step, device: torch.device) -> float:
    if device.type != "cuda":
        # of one thread the processor's time, which other programs of the machine disturb less
        clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
        start = clock()
        step()
        return clock() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    step()
    end.record()
    torch.cuda.synchronize(device)
    return begin.elapsed_time(end) / 1000


def alternate(
    ways: Mapping[str, Step], device: torch.device, repeats: int, slow_repeats: int | None = None
) -> dict[str, float]:
    """Median seconds of each way; the ways take turns, so that all see the same state of the machine.

    Args:
        ways: by name; each is run once before.
        device: where they compute.
        repeats: of each way.
        slow_repeats: of the first way, where it is much slower.
    """
    for step in ways.values():
        step()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(repeats):
        for place, (name, step) in enumerate(ways.items()):
            if place or slow_repeats is None or number < slow_repeats:
                seconds[name].append(_seconds(step, device))
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_memory(step: Step, device: torch.device) -> float:
    """MiB that a step allocates at most, what was there before not counted."""
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        step()
    events = [e for e in found.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most / 2**20


def differences(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> list[float]:
    """The greatest absolute difference of each pair."""
    return [float((a.double() - b.double()).abs().max()) for a, b in zip(first, second, strict=True)]


def print_table(seconds: Mapping[str, float], memory: Mapping[str, float]) -> None:
    """Times, and the peaks of those that have one."""
    print(f"{'':16s}{'median ms':>12s}{'peak MiB':>10s}")
    for name, value in seconds.items():
        peak = f"{memory[name]:10.1f}" if name in memory else ""
        print(f"{name:16s}{value * 1000:12.1f}{peak}")
