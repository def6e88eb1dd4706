# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
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
