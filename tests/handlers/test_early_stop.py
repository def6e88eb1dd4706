# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
from ignite.engine import Engine, Events

from monai_mgca.handlers import EarlyStopOnKeyMetric

NAN, INF = float("nan"), float("inf")


def last_epoch(values, patience, interval=1, negative_sign=False):
    """The epoch at which a trainer stops whose validation gives these values."""
    evaluator, trainer = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)
    evaluator.state.key_metric_name = "key"

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        if engine.state.epoch % interval == 0:
            evaluator.state.metrics["key"] = values[engine.state.epoch // interval - 1]

    EarlyStopOnKeyMetric(evaluator, patience, interval, negative_sign).attach(trainer)
    return trainer.run([0], max_epochs=len(values) * interval).epoch


@pytest.mark.parametrize(
    ("values", "kwargs", "expected"),
    [
        ([1, 2, 3, 4, 5], {"patience": 2}, 5),  # improves all the time
        ([3, 2, 1, 4, 5], {"patience": 2}, 3),  # two epochs without improvement
        ([3, 2, 4, 3, 3], {"patience": 2}, 5),  # the count starts again
        ([1, 2, 3, 4, 5], {"patience": 2, "negative_sign": True}, 3),
        ([3, 2, 1, 0, 0], {"patience": 2, "interval": 3}, 9),  # counts validations, not epochs
        ([3, NAN, NAN, 4, 5], {"patience": 2}, 3),  # what is not a number is no improvement
        ([3, NAN, 4, NAN, 5], {"patience": 2, "negative_sign": True}, 3),
        ([3, INF, 4, 5, 6], {"patience": 2}, 5),  # nor is what is infinite
        ([3, -INF, 2, 1, 0], {"patience": 2, "negative_sign": True}, 5),
        ([NAN, 2, 3, 4, 5], {"patience": 2}, 5),  # and anything improves on it
        ([NAN, 2, 3, 4, 5], {"patience": 2, "negative_sign": True}, 4),
        ([5, 4, 3, 2, 1], {"patience": 0}, 5),  # never
    ],
)
def test_stops(values, kwargs, expected):
    assert last_epoch(values, **kwargs) == expected
