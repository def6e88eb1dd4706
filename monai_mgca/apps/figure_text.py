# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A figure and its interval as the tables of commands show them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

__all__ = ["figure_text"]


def figure_text(figures: Mapping[str, float], key: str) -> str:
    """A figure, and its interval where it has one.

    Args:
        figures: as :func:`monai_mgca.metrics.bootstrap.with_intervals` names them.
        key: of the figure, which may be missing.

    Example::

        print(figure_text({"auroc": 0.81, "auroc_low": 0.7, "auroc_high": 0.9}, "auroc"))  # 0.810 [0.70, 0.90]
    """
    value, low, high = (figures.get(f"{key}{end}") for end in ("", "_low", "_high"))
    if value is None or np.isnan(value):
        return "-"
    return f"{value:.3f}" + ("" if low is None or high is None else f" [{low:.2f}, {high:.2f}]")
