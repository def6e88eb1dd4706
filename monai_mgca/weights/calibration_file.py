# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The calibration beside weights: plain numbers in a JSON file that holds for these weights alone."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_mgca.io.embedding_file import fingerprint_of
from monai_mgca.utils.errors import CheckpointError
from monai_mgca.utils.files import read_settings, write_settings

__all__ = ["calibration_path", "read_calibration", "write_calibration"]

logger = logging.getLogger(__name__)

FINGERPRINT = "weights"
# by which of these numbers a finding is calibrated
KINDS = (("temperature",), ("slope", "intercept"), ("x", "y"))


def calibration_path(weights: str | os.PathLike) -> Path:
    """Where the calibration of some weights stands: ``model_pretrain_calibration.json``."""
    path = Path(weights)
    return path.with_name(f"{path.stem}_calibration.json")


def write_calibration(weights: str | os.PathLike, calibration: Mapping[str, Any]) -> Path:
    """Write the calibration of some weights beside them, in place of an earlier one.

    Args:
        weights: the file that it was fitted for; weights of a later training are not calibrated by it.
        calibration: "findings", the numbers of each by its name, and what else is to be known of it.

    Returns:
        The path of the file.

    Example::

        torch.save({"weight": torch.zeros(2)}, "model.pt")
        write_calibration("model.pt", {"findings": {"edema": {"temperature": 2.0, "threshold": 0.3}}})
        print(read_calibration("model.pt")["findings"]["edema"]["temperature"])  # 2.0
    """
    path = calibration_path(weights)
    write_settings(path, {FINGERPRINT: fingerprint_of([weights], None), **calibration})
    return path


def read_calibration(weights: str | os.PathLike) -> dict[str, Any] | None:
    """What :func:`write_calibration` wrote for these weights.

    Args:
        weights: of a training.

    Returns:
        The calibration; None where there is none, or where it is of other weights, which the log says.

    Raises:
        CheckpointError: when the file is damaged, naming it and the finding.

    Example::

        print(read_calibration("model_pretrain.pt"))  # None
    """
    path = calibration_path(weights)
    if not path.is_file():
        return None
    mend = "fit it again by mgca calibrate, or delete the file"
    found = read_settings(path)
    if not isinstance(found, dict) or not isinstance(found.get("findings"), dict):
        raise CheckpointError(f"{path} holds no calibration, 'findings' with the numbers of each: {mend}.")
    for name, numbers in found["findings"].items():
        if not _is_whole(numbers):
            raise CheckpointError(f"{path}: the numbers of '{name}' are no calibration: {mend}.")
    if found.pop(FINGERPRINT, None) != fingerprint_of([weights], None):
        logger.warning(f"{path} is of other weights than {Path(weights).name}, and is not used: {mend}.")
        return None
    return found


def _is_whole(numbers: Any) -> bool:
    """Whether there are all the numbers that one of the methods needs, and the threshold."""
    if not isinstance(numbers, Mapping):
        return False
    needed = next((kind for kind in KINDS if set(kind) <= numbers.keys()), None)
    if needed is None or not _is_number(numbers.get("threshold")):
        return False
    if needed != ("x", "y"):
        return all(_is_number(numbers[name]) for name in needed) and numbers.get("temperature", 1) > 0
    x, y = numbers["x"], numbers["y"]
    lists = isinstance(x, list) and isinstance(y, list) and 0 < len(x) == len(y)
    return lists and all(map(_is_number, [*x, *y])) and x == sorted(x)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
