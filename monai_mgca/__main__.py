# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The door to all commands: ``mgca``, or ``python -m monai_mgca``; training goes by ``python -m monai.bundle run``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from monai_mgca.utils.arguments import ArgumentParser

__all__ = ["COMMANDS", "main"]

# each is imported when it is run: together they take ten seconds
COMMANDS = {
    "data": ("monai_mgca.apps.data_command", "make a datalist from a public collection, a folder or a table"),
    "check": ("monai_mgca.apps.check_command", "open every image of a datalist and list what is broken"),
    "anchors": ("monai_mgca.apps.anchors_command", "fit a detector's anchors to the boxes of a datalist"),
    "weights": ("monai_mgca.apps.weights_command", "convert weights of the official MGCA code"),
    "bundle": ("monai_mgca.apps.bundle_command", "copy the MONAI Bundle, whose configs train and evaluate"),
    "probe": ("monai_mgca.apps.probe.probe_command", "fit linear probes to the features of encoders"),
    "zero-shot": ("monai_mgca.apps.zero_shot.zero_shot_command", "classify images by texts, without labels"),
    "calibrate": ("monai_mgca.apps.calibrate.calibrate_command", "make frequencies of probabilities, and thresholds"),
    "negation": ("monai_mgca.apps.negation.negation_command", 'measure whether a model understands "no"'),
    "retrieve": ("monai_mgca.apps.retrieve.retrieve_command", "find images or reports by text or by image"),
    "ground": ("monai_mgca.apps.ground.ground_command", "show where an image shows what a phrase says"),
    "outliers": ("monai_mgca.apps.outliers.outliers_command", "find images that are unlike those of the training"),
    "groups": ("monai_mgca.apps.groups.groups_command", "split results by sex, age, view and so on"),
    "card": ("monai_mgca.apps.card.card_command", "write an HTML page about a pretrained model"),
    "label": ("monai_mgca.label.label_command", "annotate with MONAI Label and our models"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the commands, or list them.

    Args:
        arguments: the command's name and its own arguments; those of the command line if None.

    Returns:
        The exit code of the command.

    Example::

        main([])  # lists the commands
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    if not arguments:
        parser.print_help()
        return 0
    name = parser.parse_args(arguments[:1]).command
    code: int = import_module(COMMANDS[name][0]).main(arguments[1:])
    return code


def _parser() -> ArgumentParser:
    lines = [f"  {name:10s} {text}" for name, (_, text) in COMMANDS.items()]
    parser = ArgumentParser(
        prog="mgca",
        usage="mgca COMMAND ... [--help]",
        description="Image-report pretraining for MONAI, and what a pretrained model is used for. Commands:\n\n"
        + "\n".join(lines),
        epilog="Pretrain and finetune:\n  python -m monai.bundle run --config_file bundles/mgca/configs/train.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="each has --help with an example")
    return parser


if __name__ == "__main__":
    sys.exit(main())
