# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

from __future__ import annotations

from .claim import claim_folders, refuse_claimed, release_folders, run_claimed
from .config import plain_options, refuse_bundle_load
from .dist import leave_group
from .enums import MGCAKeys
from .errors import CheckpointError, DataError, OptionError, explain_errors
from .federated import trained_settings, weights_are_sent
from .files import read_settings, write_settings
from .folders import check_folders, training_bytes
from .options import check_options, option_value
from .run_log import start_run_log, stop_run_log
from .running_config import bundle_root
from .signals import leave_after_signal
from .switches import switches
from .weights import read_model_settings, refuse_sample

__all__ = [
    "CheckpointError",
    "DataError",
    "MGCAKeys",
    "OptionError",
    "bundle_root",
    "check_folders",
    "check_options",
    "claim_folders",
    "explain_errors",
    "leave_after_signal",
    "leave_group",
    "option_value",
    "plain_options",
    "read_model_settings",
    "read_settings",
    "refuse_bundle_load",
    "refuse_claimed",
    "refuse_sample",
    "release_folders",
    "run_claimed",
    "start_run_log",
    "stop_run_log",
    "switches",
    "trained_settings",
    "training_bytes",
    "weights_are_sent",
    "write_settings",
]
