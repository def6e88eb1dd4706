# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from .dist import leave_group
from .enums import MGCAKeys
from .errors import CheckpointError, DataError, OptionError, explain_errors
from .files import read_settings, write_settings
from .folder_lock import claim_folders, refuse_claimed, release_folders, run_claimed
from .free_space import check_folders, training_bytes
from .run_log import start_run_log, stop_run_log
from .signals import leave_after_signal

__all__ = [
    "CheckpointError",
    "DataError",
    "MGCAKeys",
    "OptionError",
    "check_folders",
    "claim_folders",
    "explain_errors",
    "leave_after_signal",
    "leave_group",
    "read_settings",
    "refuse_claimed",
    "release_folders",
    "run_claimed",
    "start_run_log",
    "stop_run_log",
    "training_bytes",
    "write_settings",
]
