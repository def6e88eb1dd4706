# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Image-report pretraining by Multi-Granularity Cross-modal Alignment (MGCA) for MONAI."""

import lazy_loader

__version__ = "0.1.0"

# each is imported when it is asked for
_ROOMS = ("apps", "data", "engines", "handlers", "io", "label", "losses", "metrics", "networks", "options", "text")
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules={*_ROOMS, "transforms", "utils", "visualize", "weights"},
    submod_attrs={"apps.load_model": ["load"]},
)
