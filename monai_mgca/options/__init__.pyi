# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from .adaptation import Adaptation, check_adaptation
from .config_expressions import plain_options, refuse_bundle_load
from .option_values import check_options, option_value
from .running_config import bundle_root
from .truth_values import switches

__all__ = [
    "Adaptation",
    "bundle_root",
    "check_adaptation",
    "check_options",
    "option_value",
    "plain_options",
    "refuse_bundle_load",
    "switches",
]
