# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai_mgca.utils.errors import CheckpointError

__all__ = ["parse_json", "read_settings", "replacing", "write_settings"]


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary name beside a file, which takes the file's place once all is written: whole or not at all.

    Args:
        path: the file to write; what fails on the way leaves it as it was, and nothing beside it.

    Example::

        with replacing("notes.txt") as temporary:
            temporary.write_text("whole")
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def parse_json(text: str) -> Any:
    """What a JSON text holds.

    Args:
        text: from anywhere.

    Raises:
        ValueError: when it is no JSON, or nested deeper than Python's stack; the message says where, not what.

    Example::

        print(parse_json('{"size": [2, 3]}'))
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def write_settings(path: str | os.PathLike, settings: Mapping[str, Any]) -> None:
    """Write settings beside a network's weights, so that they can be used without knowing how they were made.

    Args:
        path: of the JSON file; it appears whole or not at all.
        settings: plain values.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def read_settings(path: str | os.PathLike, required: bool = False) -> dict[str, Any]:
    """Read what :func:`write_settings` wrote.

    Args:
        path: of the JSON file.
        required: refuse a missing file, which else gives no settings.

    Raises:
        CheckpointError: when a required file is missing, or the file is not JSON.
    """
    path = Path(path)
    if not path.is_file():
        if required:
            raise CheckpointError(f"There is no {path}, which a training writes beside its weights: train first.")
        return {}
    try:
        settings: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON ({error}): take the one of the training again.") from None
    return settings
