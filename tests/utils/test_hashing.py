# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


from __future__ import annotations

import functools
import os
import re
import runpy
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import Compose, LoadImaged, ScaleIntensityRanged

from monai_mgca.utils.enums import MGCAKeys
from monai_mgca.utils.hashing import hash_contents

ROOT = Path(__file__).resolve().parents[2]


class Box:
    def __init__(self, **values):
        vars(self).update(values)


class Slots:
    __slots__ = ("a",)

    def __init__(self, a):
        self.a = a


class Name(str):
    pass


def add(a, b=1):
    return a + b


def enclosing(number):
    return lambda x: x + number


def chain(length):
    found = None
    for _ in range(length):
        found = [found]
    return found


# each line: two values that are made again at every look, and differ from each other
PAIRS = {
    "types": (lambda: 1, lambda: 1.0),
    "bool": (lambda: 1, lambda: True),
    "text": (lambda: "1", lambda: 1),
    "bytes": (lambda: b"1", lambda: "1"),
    "zero": (lambda: 0.0, lambda: -0.0),
    "surrogate": (lambda: "\udc80", lambda: "\udc81"),
    "str subclass": (lambda: Name("a"), lambda: "a"),
    "list": (lambda: [1, [2, 3]], lambda: [1, 2, [3]]),
    "split text": (lambda: ["ab", "c"], lambda: ["a", "bc"]),
    "tuple": (lambda: (1, 2), lambda: [1, 2]),
    "order of a dictionary": (lambda: {"a": 1, "b": 2}, lambda: {"b": 2, "a": 1}),
    "set": (lambda: {"a", "b", "c"}, lambda: {"a", "b", "d"}),
    "frozen set": (lambda: frozenset({"a", ("b", 1)}), lambda: {"a", ("b", 1)}),
    "array": (lambda: np.arange(6).reshape(2, 3), lambda: np.arange(6).reshape(3, 2)),
    "array's type": (lambda: np.zeros(2, np.int64), lambda: np.zeros(2, np.float64)),
    "array of objects": (lambda: np.array([{"a": 1}, None]), lambda: np.array([{"a": 2}, None])),
    "scalar": (lambda: np.float32(2), lambda: np.float32(3)),
    "tensor": (lambda: torch.arange(4.0), lambda: torch.arange(4.0) + 1),
    "tensor's type": (lambda: torch.zeros(2), lambda: torch.zeros(2, dtype=torch.int32)),
    "tensor's shape": (lambda: torch.zeros(2, 3).t(), lambda: torch.zeros(2, 3)),
    "bfloat16": (lambda: torch.ones(3).bfloat16(), lambda: torch.ones(3).half()),
    "number in a tensor": (lambda: torch.tensor(1), lambda: torch.tensor(2)),
    "weights": (lambda: seeded(0), lambda: seeded(1)),
    "dtype": (lambda: torch.float32, lambda: torch.float16),
    "device": (lambda: torch.device("cpu"), lambda: torch.device("cuda:0")),
    "class": (lambda: Box, lambda: Slots),
    "attribute": (lambda: Box(a=1), lambda: Box(a=2)),
    "nested": (lambda: Box(a=[Box(b=(1, {"c": 2}))]), lambda: Box(a=[Box(b=(1, {"c": 3}))])),
    "slots": (lambda: Slots(1), lambda: Slots(2)),
    "lambda": (lambda: lambda x: x + 1, lambda: lambda x: x + 2),
    "enclosed": (lambda: enclosing(1), lambda: enclosing(2)),
    "function": (lambda: add, lambda: enclosing),
    "partial": (lambda: functools.partial(add, b=1), lambda: functools.partial(add, b=2)),
    "method": (lambda: Box(a=1).__eq__, lambda: Box(a=1).__ne__),
    "bound": (lambda: [1].append, lambda: [2].append),
    "ufunc": (lambda: np.add, lambda: np.subtract),
    "built in": (lambda: len, lambda: sum),
    "module": (lambda: os, lambda: re),
    "enum": (lambda: MGCAKeys.IMAGE_EMBEDDING, lambda: str(MGCAKeys.IMAGE_EMBEDDING)),
    "pattern": (lambda: re.compile("a"), lambda: re.compile("a", re.IGNORECASE)),
    "path": (lambda: Path("a"), lambda: Path("b")),
    "random state": (lambda: np.random.RandomState(0), lambda: np.random.RandomState(1)),
    "depth": (lambda: chain(40), lambda: chain(41)),
    "transforms": (lambda: transforms(255), lambda: transforms(254)),
}


def seeded(seed):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


def transforms(maximum):
    return Compose([LoadImaged("image"), ScaleIntensityRanged("image", 0, maximum, 0, 1)]).transforms


@pytest.mark.parametrize("name", PAIRS)
def test_equal_values_have_one_hash_and_others_another(name):
    first, second = PAIRS[name]
    assert hash_contents(first()) == hash_contents(first())
    assert hash_contents(second()) == hash_contents(second())
    assert hash_contents(first()) != hash_contents(second())
    assert re.fullmatch("[0-9a-f]{64}", hash_contents(first()))


def test_no_two_values_have_one_hash():
    values = [make for pair in PAIRS.values() for make in pair]
    hashes = {hash_contents(make()) for make in values}
    assert len(hashes) >= len(values) - 6  # (1, "a", add, ... are there more than once)


def test_what_does_not_matter():
    shared = [1]
    assert hash_contents([shared, shared]) == hash_contents([[1], [1]])
    assert hash_contents(torch.arange(6).view(2, 3).t()) == hash_contents(torch.arange(6).view(2, 3).t().contiguous())
    assert hash_contents(torch.nn.Parameter(torch.ones(2))) == hash_contents(torch.ones(2))
    assert hash_contents({"a", "b", "c"}) == hash_contents({"c", "b", "a"})


def test_a_ring_ends():
    ring = [1]
    ring.append(ring)
    other = [2]
    other.append(other)
    assert hash_contents(ring) == hash_contents(ring) != hash_contents(other)


def test_what_cannot_be_copied_is_refused():
    with pytest.raises(TypeError):
        hash_contents(Box(lock=threading.Lock()))


HASHES = """
import sys
sys.path.insert(0, "tests/utils")
import test_hashing
for pair in test_hashing.PAIRS.values():
    for make in pair:
        print(test_hashing.hash_contents(make()))
"""


def test_every_process_has_the_same_hash(forks, monkeypatch, capsys, tmp_path):
    """Also where a set has another order, as it has in the fork server."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "hashes.py").write_text(HASHES)
    runpy.run_path(str(tmp_path / "hashes.py"))
    here = capsys.readouterr().out
    done = forks.run("-c", HASHES)
    assert done.stdout == here
    assert len(here.split()) == 2 * len(PAIRS)
