# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Truth values that a command line hands over as text."""

from __future__ import annotations

from types import SimpleNamespace

__all__ = ["switches"]


def switches(**values: bool | str) -> SimpleNamespace:
    """Truth values of a config's switches, which the command line hands over as text: ``--amp false`` is "false".

    Args:
        values: each a bool, or "true" or "false" in any case.

    Returns:
        The same names with bools.

    Raises:
        ValueError: for any other value, naming the switch.

    Example::

        print(switches(amp="false", resume=True).amp)
    """
    made = SimpleNamespace()
    for name, value in values.items():
        text = str(value).lower()
        if text not in ("true", "false"):
            raise ValueError(f"{name} must be true or false, got {value!r}.")
        setattr(made, name, text == "true")
    return made
