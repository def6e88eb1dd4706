# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Weights from elsewhere, and to elsewhere: ``mgca weights convert FILE OUTPUT``."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from monai_mgca.utils.arguments import ArgumentParser
from monai_mgca.utils.console import say
from monai_mgca.utils.errors import CheckpointError

if TYPE_CHECKING:
    from monai_mgca.weights.official_conversion import OfficialConversion

__all__ = ["main"]

EXAMPLE = "mgca weights convert vit_base.ckpt models/model_pretrain.pt"


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="mgca weights", description=__doc__, examples=EXAMPLE)
    commands = parser.add_subparsers(dest="command", required=True)
    convert = commands.add_parser(
        "convert", help="turn a checkpoint of the official MGCA code into one of this package", examples=EXAMPLE
    )
    convert.add_argument("checkpoint", help="the published Lightning file (.ckpt)")
    convert.add_argument("output", help="file to write: .pt or .safetensors")
    convert.add_argument(
        "--in-channels",
        type=int,
        choices=(1, 3),
        default=1,
        help="1 sums the RGB kernels for grayscale images (default), and [CLS] with its position; 3 keeps them apart",
    )
    convert.add_argument(
        "--encoder-only", action="store_true", help="write the image encoder and its projection alone, as model.pt"
    )
    convert.add_argument(
        "--matcher",
        choices=("similarity", "learned"),
        help="what the network was trained with, where the file does not say",
    )
    return parser


def _summary(conversion: OfficialConversion, output: str) -> str:
    from monai_mgca.weights.official_settings import encoder_name

    settings = conversion.settings
    bert, network = settings["report_encoder"]["source"], settings["network"]
    encoder = encoder_name(settings["image_encoder"]) or conversion.architecture
    ignored: dict[str, list[str]] = {}
    for name in conversion.ignored:
        ignored.setdefault(re.sub(r"\.\d+\.", ".*.", name), []).extend(re.findall(r"\.(\d+)\.", name))
    lines = [
        f"{conversion.moved} tensors written to {output}.",
        f"{len(conversion.ignored)} tensors left out, which the official code does not run:",
        *(f"  {name} {', '.join(sorted(layers, key=int))}".rstrip() for name, layers in ignored.items()),
        f"Image encoder {encoder}, {bert['num_hidden_layers']} layers of BERT, {network['embed_dim']} embedding "
        f"dimensions, {network['num_prototypes']} prototypes, matcher {network['matcher']}.",
        "Arguments of the networks that take these weights:",
        json.dumps(settings, indent=2),
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 when a checkpoint does not fit."""
    options = _parser().parse_args(arguments)
    from monai_mgca.weights import convert_official_checkpoint

    try:
        conversion = convert_official_checkpoint(
            options.checkpoint, options.output, options.in_channels, options.encoder_only, options.matcher
        )
    except CheckpointError as error:
        say(error, file=sys.stderr)
        return 1
    say(_summary(conversion, options.output))
    return 0
