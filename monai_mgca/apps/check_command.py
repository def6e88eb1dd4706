# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Opens every image of a datalist and lists what is broken: ``mgca check DATALIST``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from monai_mgca.data.check.problem import PERSONAL, CheckLimits, format_problems
from monai_mgca.utils.arguments import ArgumentParser
from monai_mgca.utils.console import log_to_console, say
from monai_mgca.utils.errors import DataError

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    examples = "mgca check dataset.json\nmgca check dataset.json --write-clean clean.json --keep 'lateral view'"
    check = ArgumentParser(prog="mgca check", description=__doc__, examples=examples)
    check.add_argument("datalist", metavar="DATALIST")
    check.add_argument("--dataset-dir", metavar="DIR", help="the folder of the images (default: the datalist's own)")
    check.add_argument("--volumes", action="store_true", help="the images are CTs: NIfTI, or folders of DICOM series")
    check.add_argument("--num-workers", type=int, metavar="N", help="threads (default: the number of processors)")
    check.add_argument("--write-clean", metavar="FILE", help="write the datalist without what is broken")
    exclude = "list of images to leave out: one a line, or the JSON that a training wrote of images to look at"
    check.add_argument("--exclude", metavar="FILE", help=exclude)
    keep = "reasons that are reported but leave nothing out"
    check.add_argument("--keep", nargs="+", default=(), metavar="REASON", help=keep)
    check.add_argument("--phi", action="store_true", help="look for personal data in reports, DICOM tags and images")
    limits = CheckLimits()
    side = f"pixels; an image with a shorter side is too small (default: {limits.min_side})"
    check.add_argument("--min-side", type=int, default=limits.min_side, metavar="N", help=side)
    aspect = f"an image longer than so many times its width is too elongated (default: {limits.max_aspect:g})"
    check.add_argument("--max-aspect", type=float, default=limits.max_aspect, metavar="R", help=aspect)
    modality = f"DICOM's modalities that are right (default: {' '.join(limits.modalities)}; with --volumes CT)"
    check.add_argument("--modality", nargs="+", metavar="NAME", help=modality)
    return check


def _check(args: argparse.Namespace) -> int:
    """Check a datalist, perhaps write a clean one, and return the exit code."""
    if args.num_workers is not None and args.num_workers < 1:
        raise DataError(f"--num-workers must be at least 1, got {args.num_workers}.")
    from monai_mgca.data.check.check_datalist import check_datalist
    from monai_mgca.data.check.clean_datalist import read_exclusions, write_clean

    given = {"volume_modalities" if args.volumes else "modalities": args.modality} if args.modality else {}
    limits = CheckLimits(args.min_side, args.max_aspect, keep=args.keep, **given)
    exclude = read_exclusions(args.exclude) if args.exclude else []
    problems = check_datalist(
        args.datalist, args.dataset_dir, args.num_workers, args.volumes, limits, args.phi, exclude
    )
    say(format_problems(problems, limits) if problems else f"{args.datalist}: nothing is broken")
    if args.write_clean:
        say(write_clean(args.datalist, args.write_clean, problems, limits, args.dataset_dir, exclude))
    return int(any(limits.leaves_out(problem) or problem.reason in PERSONAL for problem in problems))


def main(argv: Sequence[str] | None = None) -> int:
    """Check a datalist, and perhaps write one without what is broken.

    Returns:
        0; 1 when something is broken, or personal data are found; 2 when the input is wrong.
    """
    log_to_console()
    args = _parser().parse_args(argv)
    try:
        return _check(args)
    except (DataError, OSError) as error:  # a full disk, a folder in place of a file
        say(f"error: {error}", file=sys.stderr)
        return 2
