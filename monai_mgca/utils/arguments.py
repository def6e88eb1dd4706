# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The argument parser of all commands."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, NoReturn

from monai_mgca.utils.console import visible

__all__ = ["ArgumentParser"]


class _HelpFormatter(argparse.HelpFormatter):
    """Keeps the ends of the lines of examples, and of nothing else."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("Example"):
            return text
        return super()._fill_text(text, width, indent)


class ArgumentParser(argparse.ArgumentParser):
    """A parser of a command line that takes options by their whole names alone, and names the nearest to a wrong one.

    A part of a name would mean another option, or none, once there are more options.

    Args:
        args, kwargs: as of ``argparse.ArgumentParser``.
        examples: command lines that end the help, one a line.

    Example::

        parser = ArgumentParser(prog="command", examples="command --epochs 3")
        parser.add_argument("--epochs", type=int)
        print(parser.parse_args(["--epochs", "3"]).epochs)
    """

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        if examples:
            lines = [f"  {line}" for line in examples.splitlines()]
            kwargs["epilog"] = "\n".join([f"Example{'s' * (len(lines) > 1)}:", *lines])
        super().__init__(*args, **{"allow_abbrev": False, "formatter_class": _HelpFormatter, **kwargs})

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """As argparse's."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(map(self._with_near_miss, unknown))}")
        return found

    def error(self, message: str) -> NoReturn:
        """As argparse's, without the control characters that an argument may hold."""
        super().error(visible(message))

    def _with_near_miss(self, argument: str) -> str:
        name = argument.partition("=")[0]
        near = get_close_matches(name, self._option_names(), 1) if name.startswith("-") else []
        return f"{argument} (did you mean {near[0]}?)" if near else argument

    def _option_names(self) -> set[str]:
        """Those of its commands too."""
        commands = [action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        below = (name for choices in commands for parser in choices.values() for name in parser._option_names())
        return {*self._option_string_actions, *below}
