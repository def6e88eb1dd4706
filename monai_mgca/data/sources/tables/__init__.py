# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Tables of data sources: rows and cells as programs write them, and what their columns say of images."""
