# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Linear probes of encoders, quickly: features are computed once, then fitted for every fraction, seed and class."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from monai_mgca.apps.run_command import run_command
from monai_mgca.utils.arguments import ArgumentParser

__all__ = ["main"]

EXAMPLES = """mgca probe --output probe.csv
mgca probe --dataset-dir dicom --checkpoint models/model.pt random --fractions 1 0.1 --output probe.csv"""


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="mgca probe", description=__doc__, examples=EXAMPLES)
    add = parser.add_argument
    add("--dataset-dir", metavar="DIR", help="folder of the images (default: the built-in sample)")
    add("--datalist", metavar="FILE", help="the datalist JSON (default: datalist.json in DIR)")
    add(
        "--checkpoint",
        nargs="+",
        metavar="FILE",
        help="encoders, random, or pixels: 32 x 32, of volumes 16 x 16 x 16 (default: the bundle's model.pt and both)",
    )
    add("--fractions", nargs="+", type=float, default=[1, 0.1, 0.01], metavar="PART", help="parts of the patients")
    add("--seeds", type=int, default=3, metavar="N", help="choices of the parts, and random encoders (default: 3)")
    add("--label-mode", choices=("multilabel", "multiclass"), default="multilabel")
    add("--uncertain", choices=("ignore", "zeros", "ones"), default="ignore", help="what uncertain labels are")
    add("--classes", nargs="+", metavar="NAME", help="some of the datalist's classes (default: all)")
    add("--section", choices=("validation", "test"), default="validation", help="section to measure on")
    add("--encoder", metavar="NAME", help="image encoder, where no model.json is beside the checkpoint")
    add("--image-size", type=int, metavar="N", help="pixels (default: of the model.json, or 224)")
    add("--in-channels", type=int, metavar="N", help="channels (default: of the model.json, or 1)")
    add("--sample-size", type=int, metavar="N", help="studies of the built-in sample (default: as trained, or 640)")
    add("--output", default="probe.csv", metavar="FILE", help="the CSV table (default: probe.csv)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Fit linear probes, print their table, write it as CSV and draw it.

    Returns:
        0; 2 when the input is wrong.
    """
    args = _parser().parse_args(argv)
    # here, since it takes seconds to import
    from monai_mgca.apps.probe.probe_encoders import probe

    return run_command(probe, args)
