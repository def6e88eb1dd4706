# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""One HTML page about a pretrained model, to send to a colleague: curves, retrieval, zero-shot, pairs and heat maps."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from monai_mgca.apps.run_command import run_command
from monai_mgca.data.entry import SECTIONS
from monai_mgca.utils.arguments import ArgumentParser

__all__ = ["main"]

EXAMPLES = """mgca card
mgca card --checkpoint models/model_pretrain.pt --dataset-dir dicom --section test --output card.html"""


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="mgca card", description=__doc__, examples=EXAMPLES)
    add = parser.add_argument
    add("--checkpoint", metavar="FILE", help="model_pretrain.pt of a training (default: the bundle's)")
    add("--dataset-dir", metavar="DIR", help="folder of the images (default: the built-in sample)")
    add("--datalist", metavar="FILE", help="the datalist JSON (default: datalist.json in DIR)")
    add("--section", choices=SECTIONS, default="validation", help="section to show (default: validation)")
    add("--limit", type=int, metavar="N", help="the first N pairs of the section (default: all)")
    add("--logdir", metavar="DIR", help="folder of the training's event files (default: eval of the bundle)")
    add("--prompts", metavar="FILE", help="texts of the findings (default: prompts.json of the bundle)")
    add("--with-text", action="store_true", help="show the reports too, which may show who the patient is")
    add("--sample-size", type=int, metavar="N", help="studies of the built-in sample (default: as trained, or 640)")
    add("--output", metavar="FILE", help="the page (default: eval/card.html of the bundle)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a pretrained model and write the page.

    Returns:
        0; 2 when the input is wrong.
    """
    args = _parser().parse_args(argv)
    # here, since it takes seconds to import
    from monai_mgca.apps.card.compose_card import compose_card

    return run_command(compose_card, args)
