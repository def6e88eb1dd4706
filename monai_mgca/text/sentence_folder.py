# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Folders of sentence-transformers: where the encoder is in them, and how they pool its states."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file

__all__ = ["encoder_folder", "own_pooling", "pooling_files"]

MODULES = "modules.json"
POOLING = "1_Pooling/config.json"
# what a pooling is called in its config.json, and here
_MODES = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}


def encoder_folder(source: str | os.PathLike) -> str | os.PathLike:
    """The folder with an encoder's config.json: of older sentence-transformers a folder in theirs, ``0_Transformer``.

    Args:
        source: a folder, or a hub's model.

    Returns:
        The source as it is, where it is not such a folder.

    Example::

        Path("sentences/0_Transformer").mkdir(parents=True)
        Path("sentences/0_Transformer/config.json").write_text('{"model_type": "mpnet"}')
        Path("sentences/modules.json").write_text('[{"path": "0_Transformer"}, {"path": "1_Pooling"}]')
        print(encoder_folder("sentences"))  # sentences/0_Transformer
    """
    folder = Path(source)
    if not folder.is_dir() or (folder / "config.json").is_file():
        return source
    inside = (folder / module.get("path", "") for module in _read(source, MODULES) or ())
    return next((place for place in inside if (place / "config.json").is_file() and _is_encoder(place)), source)


def _is_encoder(place: Path) -> bool:
    return "model_type" in json.loads((place / "config.json").read_text(encoding="utf-8"))


def pooling_files(source: str | os.PathLike) -> dict[str, bytes]:
    """The files that say how a model of sentence-transformers pools; none of another model.

    Args:
        source: a folder, or a hub's model.

    Returns:
        Names, in the folder, to contents.

    Example::

        Path("sentences").mkdir()
        Path("sentences/modules.json").write_text('[{"path": ""}, {"path": "1_Pooling"}]')
        print(list(pooling_files("sentences")))  # ['modules.json']
    """
    found = {name: _find(source, name) for name in (MODULES, POOLING)}
    if found[MODULES] is None:
        return {}
    return {name: path.read_bytes() for name, path in found.items() if path is not None}


def own_pooling(source: str | os.PathLike) -> str:
    """How a model of sentence-transformers pools the states of a text's pieces, "cls" or "mean".

    Args:
        source: a folder, or a hub's model.

    Returns:
        "cls" also for a model that is none of sentence-transformers.

    Raises:
        ValueError: when it pools in another way.

    Example::

        Path("sentences/1_Pooling").mkdir(parents=True)
        Path("sentences/modules.json").write_text('[{"path": ""}, {"path": "1_Pooling"}]')
        Path("sentences/1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
        print(own_pooling("sentences"))  # mean
    """
    settings = _read(source, POOLING) if _read(source, MODULES) else None
    if settings is None:
        return "cls"
    named = str(settings.get("pooling_mode", ""))
    modes = [name for name, used in settings.items() if name.startswith("pooling_mode_") and used]
    found = [_MODES.get(mode, mode.removeprefix("pooling_mode_")) for mode in modes] or [named]
    if len(found) != 1 or found[0] not in _MODES.values():
        raise ValueError(
            f"The pooling of '{source}' is {' and '.join(found) or 'not named'}, which MGCA does not have: choose the "
            "nearest, --pool_report mean or cls."
        )
    return found[0]


def _read(source: str | os.PathLike, name: str) -> Any:
    """The JSON of a file in a folder, or of a hub's model; None where there is none."""
    path = _find(source, name)
    return json.loads(path.read_text(encoding="utf-8")) if path is not None else None


def _find(source: str | os.PathLike, name: str) -> Path | None:
    path = Path(source) / name
    if Path(source).is_dir():
        return path if path.is_file() else None
    try:
        found = cached_file(str(source), name, _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError):  # neither a folder nor a name that the hub has
        return None
    return Path(found) if found else None
