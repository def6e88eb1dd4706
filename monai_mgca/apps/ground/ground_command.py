# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Where an image shows what a phrase says: heat maps as pictures, measured against boxes or masks, word by word."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from monai_mgca.apps.run_command import run_command
from monai_mgca.data.entry import SECTIONS
from monai_mgca.utils.arguments import ArgumentParser

__all__ = ["main"]

EXAMPLES = """mgca ground --image 1.png --text "right pneumothorax" "left effusion"
mgca ground --evaluate --dataset-dir dicom"""

RANDOM = "random"
REFERENCE = 64


def _pair(text: str) -> tuple[str, str]:
    name, _, phrase = text.partition("=")
    if not phrase:
        raise argparse.ArgumentTypeError(f"'{text}' is not CLASS=PHRASE")
    return name, phrase


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="mgca ground", description=__doc__, examples=EXAMPLES)
    add = parser.add_argument
    add("--image", nargs="+", default=[], metavar="FILE", help="images to ground --text or --words in")
    add("--text", nargs="+", default=[], metavar="PHRASE", help='findings, as "left pleural effusion"')
    add(
        "--threshold",
        type=float,
        metavar="PART",
        help="write a mask, too: from this part of the map's highest value on",
    )
    add("--words", action="store_true", help="a page of the images' reports, word by word; it holds the texts")
    add("--evaluate", action="store_true", help="measure the maps of the datalist's annotated findings")
    add("--phrases", nargs="+", type=_pair, default=[], metavar="CLASS=PHRASE", help="what to look for of a class")
    add("--tolerance", type=float, default=0.03, help="of the pointing game, part of the longer side (default: 0.03)")
    add("--mask-key", metavar="KEY", help="key of masks that the boxes are cut to, where boxes are too coarse")
    add("--overlays", type=int, default=24, metavar="N", help="pictures of --evaluate (default: 24)")
    add("--method", choices=("attribution", "token"), default="attribution", help="of the maps (default: attribution)")
    add("--reference", type=int, default=REFERENCE, metavar="N", help="images that show what is usual (default: 64)")
    add("--checkpoint", nargs="+", metavar="FILE", help="model_pretrain.pt, and with --evaluate also random")
    add("--dataset-dir", metavar="DIR", help="folder of the images (default: the built-in sample)")
    add("--datalist", metavar="FILE", help="the datalist JSON (default: datalist.json in DIR)")
    add("--section", choices=SECTIONS, default="validation", help="to evaluate (default: validation)")
    add("--sample-size", type=int, metavar="N", help="studies of the built-in sample (default: as trained, or 640)")
    add("--output", metavar="DIR", help="folder to write to (default: eval/grounding of the bundle)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Draw heat maps, measure them, or show a report word by word.

    Returns:
        0; 2 when the input is wrong.
    """
    args = _parser().parse_args(argv)
    # here, since it takes seconds to import
    from monai_mgca.apps.ground.heat_maps import ground

    return run_command(ground, args)
