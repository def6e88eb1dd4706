# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Trainings that invert no transform need no meta data, which are half of what a small image costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from monai.data import get_track_meta, set_track_meta
from monai.transforms import (
    CastToTyped,
    CenterSpatialCropd,
    Compose,
    RandomizableTrait,
    RepeatChanneld,
    Resized,
    ScaleIntensityRanged,
    SelectItemsd,
    SpatialPadd,
)

from monai_mgca.transforms import CleanReportd, EncodeReportd, LoadRadiographd, TokenizeReportd

__all__ = ["need_no_meta", "without_meta"]

# They give the same values without meta data. Of others nobody knows: Spacingd would take any image's pixels for 1 mm.
_BLIND = (
    *(CastToTyped, CenterSpatialCropd, RepeatChanneld, Resized, ScaleIntensityRanged, SelectItemsd, SpatialPadd),
    *(CleanReportd, EncodeReportd, LoadRadiographd, TokenizeReportd),
)


@contextmanager
def without_meta(off: bool = True) -> Iterator[None]:
    """Transforms keep no meta data.

    Args:
        off: False leaves everything as it is.
    """
    track = get_track_meta()
    set_track_meta(track and not off)
    try:
        yield
    finally:
        set_track_meta(track)


def need_no_meta(transform: Sequence[Callable] | Callable) -> bool:
    """Whether transforms are known to give the same values without the meta data of the images that they read.

    Args:
        transform: of a dataset. Random ones get none in the caches either.

    Example::

        print(need_no_meta([LoadRadiographd("image"), Resized("image", 224, size_mode="longest")]))  # True
    """
    if getattr(transform, "lazy", False):  # what it does waits in the meta data
        return False
    if isinstance(transform, Sequence) or type(transform) is Compose:
        parts: Any = getattr(transform, "transforms", transform)
        return all(map(need_no_meta, parts))
    random = isinstance(transform, RandomizableTrait) and not isinstance(transform, Compose)
    return random or type(transform) in _BLIND
