# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Find the images or reports of a whole set that are most like a text or an image."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from monai_mgca.apps.run_command import run_command
from monai_mgca.data.entry import SECTIONS
from monai_mgca.utils.arguments import ArgumentParser

__all__ = ["main"]

EXAMPLES = """mgca retrieve --text "small left pleural effusion" "cardiomegaly"
mgca retrieve --image 1.png --target reports
mgca retrieve --evaluate --sections validation"""


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="mgca retrieve", description=__doc__, examples=EXAMPLES)
    add = parser.add_argument
    add("--text", nargs="+", default=[], metavar="TEXT", help='what to look for, as "small left pleural effusion"')
    add("--image", nargs="+", default=[], metavar="FILE", help="images to look for the like of")
    add("--target", choices=("images", "reports"), default="images", help="what to find (default: images)")
    add("--top", type=int, default=10, metavar="K", help="results of each query (default: 10)")
    add("--evaluate", action="store_true", help="measure the retrieval of each image's report, and the other way")
    add("--with-text", action="store_true", help="show the reports too, which may show who the patient is")
    add("--dataset-dir", metavar="DIR", help="folder of the images (default: the built-in sample)")
    add("--datalist", metavar="FILE", help="the datalist JSON (default: datalist.json in DIR)")
    add("--sections", nargs="+", choices=SECTIONS, help="sections of the datalist (default: all)")
    add("--images", metavar="DIR", help="search all images below this folder in place of a datalist's")
    add("--checkpoint", metavar="FILE", help="model_pretrain.pt of a training (default: the bundle's)")
    add("--random", action="store_true", help="the network with random weights: what --evaluate is to be held against")
    add("--backend", choices=("exact", "faiss"), default="exact", help="faiss needs faiss-cpu (default: exact)")
    add("--sample-size", type=int, metavar="N", help="studies of the built-in sample (default: as trained, or 640)")
    add("--output", metavar="DIR", help="folder to write to (default: eval/retrieval of the bundle)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Embed a set unless it is, search it, print the results and write them as CSV and as a page.

    Returns:
        0; 2 when the input is wrong.
    """
    args = _parser().parse_args(argv)
    # here, since it takes seconds to import
    from monai_mgca.apps.retrieve.search import retrieve

    return run_command(retrieve, args)
