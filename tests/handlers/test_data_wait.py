# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import logging
import time

import pytest
from ignite.engine import Engine

from monai_mgca.handlers import DataWaitWarning

NAME = "monai_mgca.handlers.data_wait"


@pytest.fixture
def run(monkeypatch, caplog):
    """Train by a clock of its own: so many seconds for each batch and for each step."""

    def train(batch: float, step: float, first: float = 0.0, count: int = 6, epochs: int = 2, **settings) -> list[str]:
        now = [0.0]
        monkeypatch.setattr(time, "perf_counter", lambda: now[0])

        def load():
            now[0] += first
            for i in range(count):
                now[0] += batch
                yield i

        class Loader:
            def __iter__(self):
                return load()

            def __len__(self):
                return count

        def iterate(engine, item):
            now[0] += step

        engine = Engine(iterate)
        DataWaitWarning(**{"after": 4, **settings}).attach(engine)
        caplog.clear()
        with caplog.at_level(logging.INFO, logger=NAME):
            engine.run(Loader(), max_epochs=epochs)
        return [record.getMessage() for record in caplog.records if record.name == NAME]

    return train


def test_warns_once_with_the_share_and_the_mend(run):
    messages = run(batch=3.0, step=1.0, epochs=3)
    assert len(messages) == 1
    assert messages[0].startswith("75% of the training's time")
    assert "\n" not in messages[0]
    assert "cache" in messages[0]
    assert "num_workers" in messages[0]


def test_is_silent_when_data_are_there(run):
    assert run(batch=0.25, step=1.0) == []


def test_the_start_of_the_loader_is_not_waiting(run):
    assert run(batch=0.1, step=1.0, first=100.0) == []


def test_the_share_is_the_limit(run):
    assert run(batch=1.0, step=1.0, share=0.6) == []
    assert len(run(batch=1.0, step=1.0, share=0.4)) == 1


def test_short_epochs_and_trainings(run):
    assert len(run(batch=3.0, step=1.0, count=2, epochs=4)) == 1
    assert run(batch=3.0, step=1.0, count=2, epochs=3) == []


@pytest.mark.parametrize("settings", [{"share": 0}, {"share": 1.5}, {"after": 0}])
def test_limits_that_are_none(settings):
    with pytest.raises(ValueError, match="share must be between 0 and 1"):
        DataWaitWarning(**settings)
