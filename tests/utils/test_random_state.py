# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import io
import random

import numpy as np
import pytest
import torch

from monai_mgca.utils.random_state import random_state, restore_random_state, seeded


def numbers():
    return random.gauss(0, 1), float(np.random.normal()), torch.randn(3).tolist()


@pytest.fixture(autouse=True)
def _restored():
    before = random_state()
    yield
    restore_random_state(before)


@pytest.mark.parametrize("odd", [False, True], ids=["even", "with a second normal number in store"])
def test_goes_on(odd):
    if odd:
        numbers()
    stream = io.BytesIO()
    torch.save(random_state(), stream)
    first = [numbers() for _ in range(3)]
    stream.seek(0)
    restore_random_state(torch.load(stream, weights_only=True))
    assert [numbers() for _ in range(3)] == first


def test_seeded():
    before = random_state()
    with seeded(7):
        first = numbers()
    after = numbers()
    with seeded(7):
        assert numbers() == first
    with seeded(8):
        assert not set(map(str, numbers())) & set(map(str, first))
    restore_random_state(before)
    assert numbers() == after


def test_an_error_restores_too():
    before = random_state()
    with pytest.raises(KeyError), seeded(7):  # noqa: PT012
        numbers()
        raise KeyError
    assert torch.equal(random_state()["torch"], before["torch"])
    assert random_state()["python"] == before["python"]
