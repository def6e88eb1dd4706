# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Find images that are unlike those of a pretraining: another view, another body part, upside down, no radiograph."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from monai_mgca.apps.run_command import run_command
from monai_mgca.data.entry import SECTIONS
from monai_mgca.utils.arguments import ArgumentParser

__all__ = ["main"]

EXAMPLES = """mgca outliers --images radiographs
mgca outliers --dataset-dir dicom --sections test
mgca outliers --fit --dataset-dir dicom --checkpoint official.pt  # for weights that came without a score"""


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="mgca outliers", description=__doc__, examples=EXAMPLES)
    add = parser.add_argument
    add("--image", nargs="+", default=[], metavar="FILE", help="images to look at; volumes also as a folder")
    add("--images", metavar="DIR", help="look at all images below this folder")
    add("--dataset-dir", metavar="DIR", help="folder of the images (default: the built-in sample)")
    add("--datalist", metavar="FILE", help="the datalist JSON (default: datalist.json in DIR)")
    add("--sections", nargs="+", choices=SECTIONS, help="sections of the datalist (default: all)")
    add("--checkpoint", metavar="FILE", help="model_pretrain.pt of a training (default: the bundle's)")
    add("--fit", action="store_true", help="fit the score to a datalist's training and validation sections first")
    add("--sample-size", type=int, metavar="N", help="studies of the built-in sample (default: as trained, or 640)")
    add("--output", metavar="FILE", help="the CSV table (default: eval/outliers.csv of the bundle)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the images that are unlike those of the training, and write the distance of each.

    Returns:
        0; 2 when the input is wrong.
    """
    args = _parser().parse_args(argv)
    # here, since it takes seconds to import
    from monai_mgca.apps.outliers.list_outliers import list_outliers

    return run_command(list_outliers, args)
