# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Splits the probabilities of an evaluation by sex, age, view and so on: figures of each group, and the gaps."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from monai_mgca.apps.run_command import run_command
from monai_mgca.utils.arguments import ArgumentParser

__all__ = ["main"]

EXAMPLES = "mgca groups --scores eval/zero_shot/probabilities.csv --dataset-dir dicom --by sex age sex+age"


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="mgca groups", description=__doc__, examples=EXAMPLES)
    add = parser.add_argument
    scores = "CSV table with a column image and one a finding, as inference and evaluations write it"
    add("--scores", metavar="FILE", required=True, help=scores)
    add("--dataset-dir", metavar="DIR", help="folder of the images (default: that of the datalist)")
    add("--datalist", metavar="FILE", help="the datalist JSON, with labels and groups (default: datalist.json in DIR)")
    add("--section", choices=("validation", "test", "training"), default="validation", help="section to measure on")
    add("--by", nargs="+", required=True, metavar="NAME", help="groups of the entries; sex+age crosses two")
    add("--classes", nargs="+", metavar="NAME", help="findings (default: all that table and datalist have)")
    add("--threshold", type=float, default=0.5, metavar="P", help="from which a finding is taken to be there (0.5)")
    add("--age-bands", nargs="+", type=float, default=[18, 40, 65], metavar="AGE", help="begins of bands (18 40 65)")
    add("--minimum", type=int, default=20, metavar="N", help="images of a group that is shown (default: 20)")
    add("--bootstrap", type=int, default=1000, metavar="N", help="replicates of the intervals (default: 1000)")
    add("--output", default="groups.csv", metavar="FILE", help="the CSV table (default: groups.csv)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print, write and draw the figures of each group.

    Returns:
        0; 2 when the input is wrong.
    """
    args = _parser().parse_args(argv)
    # here, since it takes seconds to import
    from monai_mgca.apps.groups.measure_groups import measure_groups

    return run_command(measure_groups, args)
