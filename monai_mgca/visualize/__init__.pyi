# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from .gallery import Hit, Ranking, public_names, thumbnail, write_gallery
from .overlay import draw_heat, draw_overlay
from .page import TEMPLATES, data_uri, write_page
from .plot_label_curves import draw_curves, mean_interval, summarize_curves
from .plot_training_curves import draw_training_curves, read_training_curves

__all__ = [
    "TEMPLATES",
    "Hit",
    "Ranking",
    "data_uri",
    "draw_curves",
    "draw_heat",
    "draw_overlay",
    "draw_training_curves",
    "mean_interval",
    "public_names",
    "read_training_curves",
    "summarize_curves",
    "thumbnail",
    "write_gallery",
    "write_page",
]
