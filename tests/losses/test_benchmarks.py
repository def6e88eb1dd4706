# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of the losses compare with computes the same, and they lead with the honest ratios."""

from __future__ import annotations

import importlib
import json
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from monai_mgca.networks import aggregate_words

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"batch": 5, "patches": 9, "words": 7, "shortest": 1, "longest": 7, "dim": 8, "prototypes": 6, "seed": 0}


@pytest.fixture
def benchmark(monkeypatch):
    """Imports a script of benchmarks/, which import each other by their names."""
    if not (ROOT / "benchmarks").is_dir():
        pytest.skip("benchmarks/ is not here: it is no part of the package")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(ROOT / "benchmarks")):
            del sys.modules[name]


def test_all_ways_give_one_value_and_gradient(benchmark):
    ways, values = benchmark("losses").make_ways(Namespace(**SIZES, device=torch.device("cpu"), loop=True, unread=True))
    for way in ways.values():
        way()
    assert list(values) == ["loop", "official", "vectorized", "in steps", "monai_mgca", "cut"]
    for name in ("loop", "vectorized", "in steps", "cut"):
        torch.testing.assert_close(values[name], values["monai_mgca"], rtol=1e-4, atol=1e-6)


def test_the_official_operations_give_the_official_total(benchmark):
    with np.load(ROOT / "tests" / "goldens" / "loss_01_vit_b4_short.npz") as file:
        arrays = {name: file[name] for name in file.files}
    info = json.loads(arrays["info_json"].tobytes().decode())
    raw = ("img", "report", "patch", "word", "prototypes")
    names = ("image", "report", "patches", "words", "prototypes")
    inputs = {
        name: F.normalize(torch.from_numpy(arrays[f"in/{old}_raw"]).double(), dim=-1)
        for name, old in zip(names, raw, strict=True)
    }
    inputs["mask"] = ~torch.from_numpy(arrays["in/pad_mask"])
    inputs["word_attention"] = torch.from_numpy(arrays["in/word_attn_pre"]).double()
    inputs["patch_attention"] = torch.from_numpy(arrays["in/patch_attn_heads"]).double().mean(1)
    found = benchmark("vectorized").vectorized_alignment(inputs, official=True)
    losses = info["losses64"]
    total = losses["loss_ita"] + losses["loss_word"] + losses["loss_patch"] + losses["loss_proto"]
    assert found.item() == pytest.approx(total, rel=1e-6)


def test_losses_lead_with_the_honest_ratios(benchmark, monkeypatch, capsys):
    args = [f"--{name}={value}" for name, value in SIZES.items()]
    monkeypatch.setattr(sys, "argv", ["losses.py", *args, "--repeats=1", f"--threads={torch.get_num_threads()}"])
    benchmark("losses").main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith("times as fast as the official code's operations written plainly")
    assert lines[2].endswith("times as fast as the vectorized way to the same values")
    assert lines[3].startswith("the token term takes")
    assert lines[3].endswith("times its matrix products alone")
    assert not any("one token at a time" in line for line in lines)
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--loop"])
    benchmark("losses").main()
    assert "a straw man" in next(line for line in capsys.readouterr().out.splitlines() if "at a time" in line)


def test_aggregations_agree_also_on_reports_without_a_word(benchmark):
    ids = torch.tensor([[-1, 0, 0, 1, 2, 2, 2, -1], [-1, 0, 1, 2, -1, -1, -1, -1], [-1] * 8])
    pieces, attention = torch.randn(3, 8, 4, dtype=torch.float64, requires_grad=True), torch.rand(3, 8).double()
    expected = aggregate_words(pieces, attention, ids, 7)[:2]
    weight = torch.randn_like(expected[0])
    (grad,) = torch.autograd.grad((expected[0] * weight).sum(), pieces)
    for way in (benchmark("plain").plain_aggregate, benchmark("vectorized").one_hot_aggregate):
        found = way(pieces, attention, ids, 7)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad((found[0] * weight).sum(), pieces)[0], grad)
