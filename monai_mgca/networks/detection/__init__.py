# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Detectors: a pyramid of features, and the networks that find boxes on it."""
