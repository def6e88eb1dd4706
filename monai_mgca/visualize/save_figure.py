# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes matplotlib's figures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from monai_mgca.utils.files import replacing

__all__ = ["save_figure"]


def save_figure(figure: Any, path: str | os.PathLike) -> None:
    """Write a picture, which appears whole or not at all.

    Args:
        figure: of matplotlib.
        path: of the picture, whose suffix says its kind (PNG, PDF or SVG).

    Example::

        from matplotlib.figure import Figure

        save_figure(Figure(), "empty.png")
    """
    with replacing(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix.removeprefix("."))
