# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The table of benchmarks/gpu.py, on a CPU with tiny networks: every row is there, and none ends the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
# runs in a fork with benchmarks/ on its path, as `python benchmarks/gpu.py` does
GUARDED = """
import argparse, json, sys
sys.path.insert(0, {folder!r})
import torch
from gpu import measure
from gpu_steps import Row

def whole(args):
    yield Row("first", seconds=0.5, count=8, unit="pairs")
    yield Row("second")

def breaks(args):
    yield Row("before")
    raise torch.OutOfMemoryError("CUDA out of memory | of 3 GiB\\nand a long story")

def cannot_begin(args):
    raise ImportError("no such thing")
    yield

parts = dict(whole=whole, breaks=breaks, cannot_begin=cannot_begin, last=whole)
for budget in (100.0, 0.0):
    args = argparse.Namespace(device=torch.device("cpu"), budget=budget)
    print(json.dumps([row.line() for row in measure(args, parts)]))
"""


def test_a_row_that_fails_is_a_row(forks):
    done = forks.run("-c", GUARDED.format(folder=str(BENCHMARKS)))
    assert done.returncode == 0, done.stderr[-3000:]
    found, late = map(json.loads, done.stdout.splitlines()[-2:])
    assert [line.split(" | ")[0] for line in found] == [
        *("| first", "| second", "| before", "| breaks", "| cannot_begin", "| first", "| second")
    ]
    assert found[0] == "| first |  | 500.0 | 16 pairs |  |  |"
    assert found[3].endswith("| failed: OutOfMemoryError: CUDA out of memory / of 3 GiB |")
    assert found[4].endswith("| failed: ImportError: no such thing |")
    assert len(late) == 4
    assert all("no further row: the 0 s of --budget are used up" in line for line in late)


@pytest.mark.slow
def test_all_rows_on_a_cpu(forks, tmp_path):
    options = ("--device", "cpu", "--small", "--workers", "0", "--output", str(tmp_path / "gpu.md"))
    done = forks.run(str(BENCHMARKS / "gpu.py"), *options)
    assert done.returncode == 0, done.stderr[-3000:]
    head, _, _, *lines = (tmp_path / "gpu.md").read_text().splitlines()
    assert "torch" in head
    assert "monai_mgca" in head
    assert "measure nothing" in head
    table = "\n".join(lines)
    assert "failed" not in table and "no further row" not in table, table  # noqa: PT018
    wanted = (
        "encoders alone; batch 4; batch 6; channels-last; micro-batches of; torch.compile; 3D training step; "
        "losses: official; losses: vectorized; losses: a straw man; losses: monai_mgca; this is no GPU; "
        "all weights equal; cache none; cache disk; Sinkhorn: published; recalls and ranks"
    )
    for what in wanted.split("; "):
        assert what in table, what
    assert {line.count("|") for line in lines} == {7}


def test_without_a_gpu_it_says_so(forks):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = forks.run(str(BENCHMARKS / "gpu.py"))
    assert done.returncode == 2
    assert "--device cpu --small" in done.stderr
