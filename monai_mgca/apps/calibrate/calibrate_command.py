# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Makes frequencies of probabilities, and thresholds of an operating point, from a section with labels.

Of a pretraining they are those of zero-shot classification, of a finetuned classification its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from monai_mgca.apps.run_command import run_command
from monai_mgca.data.entry import SECTIONS
from monai_mgca.utils.arguments import ArgumentParser

__all__ = ["main"]

EXAMPLES = """mgca calibrate
mgca calibrate --checkpoint models/model_classification.pt --dataset-dir dicom --point sensitivity=0.95"""


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="mgca calibrate", description=__doc__, examples=EXAMPLES)
    add = parser.add_argument
    add(
        "--checkpoint",
        metavar="FILE",
        help="model_pretrain.pt or model_classification.pt of a training (default: the bundle's model_pretrain.pt)",
    )
    add("--dataset-dir", metavar="DIR", help="folder of the images (default: the built-in sample)")
    add("--datalist", metavar="FILE", help="the datalist JSON with labels (default: datalist.json in DIR)")
    add("--section", choices=SECTIONS, default="validation", help="section to fit on (default: validation)")
    add("--method", choices=("platt", "temperature", "isotonic"), help="default: platt; of multiclass temperature")
    add(
        "--point",
        default="youden",
        metavar="POINT",
        help="from which probability on a finding is present: youden, sensitivity=S or specificity=S (default: youden)",
    )
    add("--fewest", type=int, default=10, metavar="N", help="images with and without it a finding needs (default: 10)")
    add("--uncertain", choices=("ignore", "zeros", "ones"), default="ignore", help="what uncertain labels are")
    add("--classes", nargs="+", metavar="NAME", help="some of the classes (default: all)")
    add("--prompts", metavar="FILE", help="of zero-shot: texts of the findings (default: prompts.json of the bundle)")
    add("--temperature", type=float, default=0.07, help="of zero-shot: the pretraining's (default: 0.07)")
    add("--sample-size", type=int, metavar="N", help="studies of the built-in sample (default: as trained, or 640)")
    add("--output", metavar="FILE", help="the CSV table (default: eval/calibration/calibration.csv of the bundle)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Fit a calibration, print how well it holds for other patients, and write it beside the weights.

    Returns:
        0; 2 when the input is wrong.
    """
    args = _parser().parse_args(argv)
    # here, since it takes seconds to import
    from monai_mgca.apps.calibrate.calibrate_weights import calibrate_weights

    return run_command(calibrate_weights, args)
