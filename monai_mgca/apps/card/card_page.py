# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes the page about a model: one HTML file that works offline."""

from __future__ import annotations

import os
from typing import Any

from monai_mgca.visualize.page import write_page

__all__ = ["write_card"]


def write_card(path: str | os.PathLike, **values: Any) -> None:
    """Write the page about a pretrained model: one file that works offline.

    Args:
        path: of the HTML file; it appears whole or not at all.
        values: what :mod:`monai_mgca.apps.card.card_command` has measured, by the names of the template.
    """
    write_page(path, "Image-report pretraining: what the model knows", "card.html", **values)
