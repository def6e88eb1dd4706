# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What the commands share: where the bundle is, which data are meant without any option, how an error ends."""

from __future__ import annotations

import argparse
import functools
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monai_mgca.data import read_datalist, resolve_dataset
from monai_mgca.options import bundle_root
from monai_mgca.utils import CheckpointError, DataError
from monai_mgca.utils.console import log_to_console, say
from monai_mgca.utils.errors import StorageError, first_cause
from monai_mgca.weights import read_model_settings

__all__ = ["choose_data", "run_command"]

logger = logging.getLogger(__name__)


def choose_data(args: argparse.Namespace, checkpoint: str) -> None:
    """Fill in ``args.dataset_dir`` and ``args.datalist`` where they are None: the sample, if it was trained on.

    Args:
        args: with these two and ``sample_size``, None for that of the training.
        checkpoint: whose ``model.json`` tells the sample's size and its pixels.

    Raises:
        DataError: when ``dataset_dir`` does not exist, or none is given and the checkpoint is of other data.
    """
    settings = read_model_settings(checkpoint)
    if args.dataset_dir is None and args.datalist is not None:
        _warn_of_sample(checkpoint, settings, args.datalist)
        return
    if args.dataset_dir is None and settings.get("use_sample") is False:
        raise DataError(
            f"{checkpoint} was trained on data of your own, and the built-in sample says nothing of it: give "
            "--dataset-dir, the folder of images with their datalist.json, or --datalist."
        )
    size, pixels = args.sample_size or settings.get("sample_size", 640), max(64, settings.get("resize_size", 146))
    args.dataset_dir = resolve_dataset(args.dataset_dir, f"{bundle_root()}/data/sample", size, pixels)
    args.datalist = args.datalist or os.path.join(args.dataset_dir, "datalist.json")
    _warn_of_sample(checkpoint, settings, args.datalist)


def _warn_of_sample(checkpoint: str, settings: Mapping[str, Any], datalist: str) -> None:
    if settings.get("use_sample") and read_datalist(datalist).get("source") != "sample":
        _warn(
            f"{checkpoint} was learned from the built-in sample, which is drawn by code: what it says of your data "
            "means nothing. Pretrain on them, or give --checkpoint."
        )


@functools.cache  # a command may ask for its data more than once
def _warn(message: str) -> None:
    logger.warning(message)


def run_command(run: Callable[[argparse.Namespace], Sequence[str]], args: argparse.Namespace) -> int:
    """Run a command, and tell what it wrote, or in one line what is wrong with its input.

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
