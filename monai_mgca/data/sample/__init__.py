# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The built-in sample: radiographs and volumes that are drawn by code, with reports and annotations."""
