# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Classifies images or volumes by texts, without labels: the probability of each finding that the prompts describe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from monai_mgca.apps.run_command import run_command
from monai_mgca.utils.arguments import ArgumentParser

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="mgca zero-shot",
        description=__doc__,
        examples="mgca zero-shot --image 1.png 2.dcm --classes cardiomegaly effusion\n"
        "python -m monai.bundle run --config_file bundles/mgca/configs/evaluate_zero_shot.json  # to measure it",
    )
    add = parser.add_argument
    add(
        "--image",
        nargs="+",
        default=[],
        metavar="FILE",
        help="images to classify; volumes also as a folder of a series",
    )
    add("--images", metavar="DIR", help="classify all images below this folder")
    add("--classes", nargs="+", metavar="NAME", help="findings of the prompts (default: all)")
    add("--prompts", metavar="FILE", help="texts of the findings (default: prompts.json of the bundle)")
    add("--checkpoint", metavar="FILE", help="model_pretrain.pt of a training (default: the bundle's)")
    add("--temperature", type=float, default=0.07, help="of the pretraining's instance alignment (default: 0.07)")
    add("--uncalibrated", action="store_true", help="leave out what mgca calibrate has fitted")
    add("--output", metavar="FILE", help="the CSV table (default: eval/zero_shot/images.csv of the bundle)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print and write the probabilities of the findings.

    Returns:
        0; 2 when the input is wrong.
    """
    args = _parser().parse_args(argv)
    # here, since it takes seconds to import
    from monai_mgca.apps.zero_shot.classify_images import classify_images

    return run_command(classify_images, args)
