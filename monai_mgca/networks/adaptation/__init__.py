# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Training a part of the weights: adapters of low rank, locked groups, learning rates that fall with depth."""
