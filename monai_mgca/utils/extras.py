# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Refuses work whose optional packages are not installed."""

from __future__ import annotations

from importlib.util import find_spec

from monai_mgca.utils.errors import DataError

__all__ = ["EXTRAS", "require_extra"]

# what each extra of pyproject.toml brings that this package imports, by the names to import
EXTRAS = {"probe": ("sklearn", "matplotlib"), "faiss": ("faiss",), "timm": ("timm",), "peft": ("peft",)}


def require_extra(extra: str, what: str, *modules: str) -> None:
    """Refuse work that needs packages which are not installed, before it begins.

    Args:
        extra: of the package, which brings them.
        what: needs them, as a message begins.
        modules: the ones that are needed; all of the extra by default.

    Raises:
        DataError: naming what is missing and how to install it.

    Example::

        require_extra("probe", "The drawing", "matplotlib")
    """
    missing = [name for name in modules or EXTRAS[extra] if find_spec(name) is None]
    if missing:
        raise DataError(f'{what} needs {" and ".join(missing)}, not installed here: pip install "monai-mgca[{extra}]".')
