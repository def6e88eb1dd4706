# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Which data a command means where none are given: the sample, if the model was trained on it."""

from __future__ import annotations

import argparse
import functools
import logging
import os
from collections.abc import Mapping
from typing import Any

from monai_mgca.data import read_datalist, resolve_trained, trained_sample_edge
from monai_mgca.options import bundle_root
from monai_mgca.utils import DataError
from monai_mgca.weights import read_model_settings

__all__ = ["choose_data"]

logger = logging.getLogger(__name__)


def choose_data(args: argparse.Namespace, checkpoint: str, name: str = "model.json") -> None:
    """Fill in ``args.dataset_dir`` and ``args.datalist`` where they are None: the sample, if it was trained on.

    Args:
        args: with these two and ``sample_size``, None for that of the training.
        checkpoint: whose settings hold the sample's size and its pixels.
        name: of the JSON file with the settings beside it.

    Raises:
        DataError: when ``dataset_dir`` does not exist, or none is given and the checkpoint is of other data.
    """
    settings = read_model_settings(checkpoint, name)
    if args.dataset_dir is None and args.datalist is not None:
        _warn_of_sample(checkpoint, settings, args.datalist)
        return
    if args.dataset_dir is None and settings.get("use_sample") is False:
        raise DataError(
            f"{checkpoint} was trained on data of your own, and the built-in sample says nothing of it: give "
            "--dataset-dir, the folder of images with their datalist.json, or --datalist."
        )
    size, edge = args.sample_size or settings.get("sample_size", 640), trained_sample_edge(settings)
    args.dataset_dir = resolve_trained(args.dataset_dir, bundle_root(), settings, size, edge)
    args.datalist = args.datalist or os.path.join(args.dataset_dir, "datalist.json")
    _warn_of_sample(checkpoint, settings, args.datalist)


def _warn_of_sample(checkpoint: str, settings: Mapping[str, Any], datalist: str) -> None:
    if settings.get("use_sample") and read_datalist(datalist).get("source") not in ("sample", "volume_sample"):
        _warn(
            f"{checkpoint} was learned from the built-in sample, which is drawn by code: what it says of your data "
            "means nothing. Pretrain on them, or give --checkpoint."
        )


@functools.cache  # a command may ask for its data more than once
def _warn(message: str) -> None:
    logger.warning(message)
