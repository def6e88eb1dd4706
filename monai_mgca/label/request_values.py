# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Numbers in the parameters of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from fastapi import HTTPException

__all__ = ["number"]


def number(values: Mapping[str, Any], key: str, low: float, high: float) -> float:
    """A number of a request.

    Args:
        values: of the request.
        key: of the number.
        low: the least that it may be.
        high: the greatest.

    Raises:
        HTTPException: when it is none, or out of bounds; 400.

    Example::

        print(number({"weight": "0.5"}, "weight", 0, 1))  # 0.5
    """
    try:
        value = float(values[key])
    except (TypeError, ValueError):
        value = np.nan
    if not low <= value <= high:
        raise HTTPException(400, f"{key} is a number from {low} to {high}, not {values[key]!r}.")
    return value
