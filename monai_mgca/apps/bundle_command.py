# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Gives a pip user the MONAI Bundle: ``mgca bundle FOLDER``."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from monai_mgca.utils.arguments import ArgumentParser
from monai_mgca.utils.console import say

__all__ = ["copy_bundle"]

# what a run makes in a bundle's folder, and pip's compiled files, are not part of it
GENERATED = ("data", "eval", "mlruns*", "*.pt", "model.json", "*.tmp", ".*.lock", "__pycache__", "*.pyc")
# a wheel has the bundle in the package, a clone beside it
INSTALLED = Path(__file__).resolve().parents[1] / "_bundle"
CLONED = Path(__file__).resolve().parents[2] / "bundles" / "mgca"


def copy_bundle(folder: str | os.PathLike) -> Path:
    """Copy the MONAI Bundle that the package carries.

    Args:
        folder: a new folder.

    Returns:
        The folder.

    Raises:
        FileExistsError: when the folder exists: a bundle may have been changed there.

    Example::

        copy_bundle("mgca")
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"'{folder}' exists already: name a new folder for the bundle.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        source = INSTALLED if INSTALLED.is_dir() else CLONED
        shutil.copytree(source, partial, ignore=shutil.ignore_patterns(*GENERATED))
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    description = "Copy the MGCA bundle to a folder."
    parser = ArgumentParser(prog="mgca bundle", description=description, examples="mgca bundle mgca")
    parser.add_argument("folder", nargs="?", default="mgca", help="a new folder (default: mgca)")
    try:
        folder = copy_bundle(parser.parse_args(arguments).folder)
    except OSError as error:
        say(f"error: {error}", file=sys.stderr)
        return 1
    say(
        f"The bundle is in {folder}. Try it: cd {folder} && python -m monai.bundle run --config_file configs/train.json"
    )
    return 0
