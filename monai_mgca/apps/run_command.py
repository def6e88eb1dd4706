# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""How a command ends: what it wrote, or one line of what is wrong. It imports nothing that takes seconds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from monai_mgca.utils.console import log_to_console, say
from monai_mgca.utils.errors import CheckpointError, DataError, StorageError, first_cause

__all__ = ["run_command"]


def run_command(run: Callable[[argparse.Namespace], Sequence[str]], args: argparse.Namespace) -> int:
    """Run a command, and report what it wrote, or in one line what is wrong with its input.

    Args:
        run: takes the arguments, returns the paths that it wrote.
        args: of the command line.

    Returns:
        0; 2 when the input is wrong, or the result cannot be written.
    """
    log_to_console()
    try:
        written = run(args)
    except (DataError, CheckpointError, OSError, RuntimeError) as error:
        cause = first_cause(error)
        if not isinstance(cause, (DataError, CheckpointError, StorageError)):
            raise
        say(f"error: {cause}", file=sys.stderr)
        return 2
    if written:
        say(f"Written: {', '.join(written)}")
    return 0
