# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Whether a volume's values are Hounsfield units, by its histogram, and what they seem to be where they are not.

Air is -1000 HU and water 0 by definition, so that every CT of a chest has voxels of gas and of soft tissue near them,
and hardly any below air or halfway between. Values that become so by a common mistake undone are named by the mistake.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["unit_problem"]

# Voxels that are looked at, evenly spaced: a share of a hundredth is known to a ten-thousandth.
ENOUGH = 2**20
# Air and lungs; fat, muscle, water and blood; what lies between them, and bone; what no tissue has, but wrong units do.
GAS, SOFT, BETWEEN, BONE, BELOW = (-1100, -600), (-200, 200), (-600, -200), (200, 600), (-1900, -1100)
# The least shares of gas and soft tissue, and the largest below air, of all voxels. Four real chests had at least 0.35
# and 0.3, and less than 0.001 below; shifted or stretched each of them was on the other side of one of the three.
LEAST_GAS, LEAST_SOFT, MOST_BELOW = 0.02, 0.03, 0.02
# The most that may lie on either side of soft tissue, in parts of it: brightnesses of an MR spread over more.
MOST_BETWEEN, MOST_BONE = 0.3, 0.5
# Units that were scaled to 0 to 1, -1 to 1 or to a deviation of 1 span no more.
NARROW = 20.0
ANEW = "convert the original again, with slope and intercept once"


class _Mistake(NamedTuple):
    """What undoes a mistake, values * factor + offset, and how it is told."""

    factor: float
    offset: float
    seems: str
    mend: str


MISTAKES = (
    *(
        _Mistake(1, -offset, "stored values without the rescale intercept", f"subtract {offset}, or {ANEW}")
        for offset in (1024, 8192)
    ),
    *(
        _Mistake(1, offset, "the rescale intercept applied twice", f"add {offset}, or {ANEW}")
        for offset in (1024, 8192)
    ),
    *(
        _Mistake(1 / slope, offset / slope, f"a rescale slope of {slope:g} applied twice", ANEW)
        for slope in (2, 0.5, 4, 0.25)
        for offset in (0, 1024)
    ),
    *(
        _Mistake(slope, -1024, f"stored values without the rescale slope of {slope:g} and the intercept", ANEW)
        for slope in (2, 0.5, 4, 0.25)
    ),
)


def unit_problem(values: np.ndarray) -> str | None:
    """Why a volume's values are no Hounsfield units: their range, what they seem to be, and the mend.

    Args:
        values: (X, Y, Z) of a CT of a chest, finite.

    Returns:
        None where they seem to be Hounsfield units, also with padding far below air and clipped to a wide window.

    Example::

        chest = np.repeat([-1000.0, -850.0, 40.0], [300, 100, 600]).reshape(10, 10, 10)
        print(unit_problem(chest), unit_problem(chest + 1024))  # None, then what is wrong with 24 to 1064
    """
    step = max(1, int(np.ceil((values.size / ENOUGH) ** (1 / values.ndim))))
    values = values[(slice(None, None, step),) * values.ndim].astype(np.float64).ravel()
    if _is_ct(values):
        return None
    low, high = values.min(), values.max()
    seems, mend = _explain(values, low, high)
    return f"{low:g} to {high:g}: {seems}; {mend}"


def _explain(values: np.ndarray, low: float, high: float) -> tuple[str, str]:
    if high - low <= NARROW:
        return "scaled already, or normalized", "take the values from before, the configs scale them"
    if low >= 0 and high <= 255:
        return "gray of 8 bits, or labels", "take the values from before they became a picture"
    if low >= 0 and high > 2**15 and _is_ct(np.where(values >= 2**15, values - 2**16, values), clearly=True):
        return "negative values stored without their sign", "subtract 65536 from those above 32767"
    for mistake in MISTAKES:
        if _is_ct(values * mistake.factor + mistake.offset, clearly=True):
            return mistake.seems, mistake.mend
    if low > GAS[1]:
        return "no air: no CT (an MR?), or one cut to a narrow window", f"take the CT's own values: {ANEW}"
    return "no air near -1000 and soft tissue near 0", ANEW


def _share(values: np.ndarray, ends: tuple[float, float]) -> float:
    return float(((values > ends[0]) & (values < ends[1])).mean())


def _is_ct(values: np.ndarray, clearly: bool = False) -> bool:
    """Whether gas and soft tissue are where those of a CT are; clearly: soft tissue stands out, too."""
    low = values.min()
    if low < GAS[0]:  # padding is one value below all others
        values = values[values > low]
    if not values.size or _share(values, BELOW) > MOST_BELOW:
        return False
    soft = _share(values, SOFT)
    narrow = _share(values, BETWEEN) < MOST_BETWEEN * soft and _share(values, BONE) < MOST_BONE * soft
    return _share(values, GAS) >= LEAST_GAS and soft >= LEAST_SOFT and (narrow or not clearly)
