# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Names of other libraries' image encoders: the library, what it calls the network, and arguments, in one line."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["EncoderName", "format_encoder_name", "parse_encoder_name"]

LIBRARIES = ("timm", "hf", "monai")
_NAME = re.compile(rf"({'|'.join(LIBRARIES)}):([^()]+?)(?:\((.*)\))?", re.DOTALL)


class EncoderName(NamedTuple):
    """An image encoder of another library.

    Attributes:
        library: "timm", "hf" (transformers) or "monai".
        network: a name that the library knows, or a local folder.
        arguments: what the library builds it with, besides its image size and input channels.
    """

    library: str
    network: str
    arguments: dict[str, Any]


def parse_encoder_name(name: str) -> EncoderName | None:
    """What a name such as "monai:DenseNet121(growth_rate=16)" stands for; None where it begins with no library.

    Args:
        name: "LIBRARY:NETWORK" or "LIBRARY:NETWORK(ARGUMENT=VALUE, ...)", where the values are plain ones of Python.

    Raises:
        ValueError: when the arguments are not written like that.

    Example::

        print(parse_encoder_name("timm:convnext_atto(depths=(1, 1, 2, 1))").arguments)
    """
    library, _, rest = name.partition(":")
    if library not in LIBRARIES or not rest:
        return None
    if os.path.isdir(rest):
        return EncoderName(library, rest, {})
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(_unreadable(name))
    return EncoderName(library, match[2], _arguments(name, match[3] or ""))


def format_encoder_name(library: str, network: str, arguments: Mapping[str, Any]) -> str:
    """The name that :func:`parse_encoder_name` reads.

    Args:
        library: see :class:`EncoderName`; so are the next two.
        network: as the library calls it.
        arguments: plain values.

    Example::

        print(format_encoder_name("monai", "DenseNet121", {"growth_rate": 16}))  # monai:DenseNet121(growth_rate=16)
    """
    listed = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return f"{library}:{network}({listed})" if listed else f"{library}:{network}"


def _arguments(name: str, text: str) -> dict[str, Any]:
    try:
        call = ast.parse(f"network({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(keyword.arg is None for keyword in call.keywords):
            raise ValueError
        return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (ValueError, SyntaxError):
        raise ValueError(_unreadable(name)) from None


def _unreadable(name: str) -> str:
    return (
        f"The image encoder '{name}' is not written as LIBRARY:NETWORK or LIBRARY:NETWORK(ARGUMENT=VALUE, ...) with "
        "numbers, texts and lists as values, such as monai:DenseNet121(growth_rate=16)."
    )
