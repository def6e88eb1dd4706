# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Networks of timm, transformers and MONAI as image encoders, one adapter a library."""
