# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from .gallery import Hit, Ranking, VolumePictures, public_names, show_volume, thumbnail, write_gallery
from .image_view import RadiographView, open_view
from .overlay import draw_heat, draw_overlay
from .page import TEMPLATES, data_uri, write_page
from .plot_label_curves import draw_curves, mean_interval, summarize_curves
from .plot_reliability import draw_reliability
from .plot_training_curves import draw_training_curves, read_training_curves
from .volume_view import VolumeView

__all__ = [
    "TEMPLATES",
    "Hit",
    "RadiographView",
    "Ranking",
    "VolumePictures",
    "VolumeView",
    "data_uri",
    "draw_curves",
    "draw_heat",
    "draw_overlay",
    "draw_reliability",
    "draw_training_curves",
    "mean_interval",
    "open_view",
    "public_names",
    "read_training_curves",
    "show_volume",
    "summarize_curves",
    "thumbnail",
    "write_gallery",
    "write_page",
]
