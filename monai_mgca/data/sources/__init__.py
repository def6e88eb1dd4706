# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Where data come from: public collections, folders and tables become datalists: ``mgca data``."""
