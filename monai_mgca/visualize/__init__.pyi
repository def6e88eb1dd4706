# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from .plot_label_curves import draw_curves, mean_interval, summarize_curves

__all__ = [
    "draw_curves",
    "mean_interval",
    "summarize_curves",
]
