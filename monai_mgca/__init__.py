# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Image-report pretraining by Multi-Granularity Cross-modal Alignment (MGCA) for MONAI."""

from __future__ import annotations

__version__ = "0.1.0"
