# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Calibrated probabilities and thresholds: ``mgca calibrate``."""
