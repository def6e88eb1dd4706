# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Heat maps of phrases, and how well they hit: ``mgca ground``."""
