# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Measures whether a pretrained model understands "no": sentences against their negations, and what bare names find."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from monai_mgca.apps.run_command import run_command
from monai_mgca.utils.arguments import ArgumentParser

__all__ = ["main"]

EXAMPLES = """mgca negation
mgca negation --dataset-dir dicom --checkpoint models/model_pretrain.pt --output negation.csv"""


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="mgca negation", description=__doc__, examples=EXAMPLES)
    add = parser.add_argument
    add("--dataset-dir", metavar="DIR", help="folder of the images (default: the built-in sample)")
    add("--datalist", metavar="FILE", help="the datalist JSON, with labels (default: datalist.json in DIR)")
    add("--section", choices=("validation", "test", "training"), default="validation", help="section to measure on")
    add("--checkpoint", metavar="FILE", help="model_pretrain.pt of a training (default: the bundle's)")
    add("--random", action="store_true", help="the same network with random weights")
    add("--pairs", metavar="FILE", help="sentences and their negations (default: negation.json of the bundle)")
    add("--bootstrap", type=int, default=1000, metavar="N", help="replicates of the intervals (default: 1000)")
    add("--sample-size", type=int, metavar="N", help="studies of the built-in sample (default: as trained, or 640)")
    add("--output", metavar="FILE", help="the CSV table (default: eval/negation.csv of the bundle)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print, write and draw the figures.

    Returns:
        0; 2 when the input is wrong.
    """
    args = _parser().parse_args(argv)
    # here, since it takes seconds to import
    from monai_mgca.apps.negation.measure_negation import measure_negation

    return run_command(measure_negation, args)
