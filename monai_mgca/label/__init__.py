# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The MONAI Label app: our models, training and active learning on its server. Needs ``pip install monai-mgca[label]``.

This file imports nothing, so that the package works without MONAI Label.
"""
