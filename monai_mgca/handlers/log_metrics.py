# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Publishes the figures of a metric among those of an engine."""

from __future__ import annotations

from collections.abc import Mapping

from ignite.engine import Engine

__all__ = ["publish_figures"]


def publish_figures(engine: Engine | None, figures: Mapping[str, float], key: str, prefix: str) -> float:
    """Put the figures of a metric beside its own value in ``engine.state.metrics``.

    Args:
        engine: MONAI's evaluator; None where the metric is used without one.
        figures: name to value.
        key: the figure that is the metric's own value, which the engine stores under the metric's name.
        prefix: put before the names of the other figures.

    Returns:
        The metric's own value.

    Example::

        print(publish_figures(None, {"map_50": 0.5, "froc": 0.6}, key="map_50", prefix="val_"))
    """
    if engine is not None:
        engine.state.metrics.update({prefix + name: value for name, value in figures.items() if name != key})
    return figures[key]
