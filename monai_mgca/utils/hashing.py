# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A hash of what transforms do, by which a cache on disk knows whether it is still right."""

from __future__ import annotations

import copyreg
import hashlib
import os
import re
import stat
import sys
import types
from collections.abc import Iterator
from enum import Enum
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["hash_contents"]

_PLAIN = (type(None), bool, int, float, complex, str)
_NAMED = (torch.dtype, torch.device, torch.memory_format, torch.layout)


def hash_contents(value: Any, files: bool = False) -> str:
    """The sha256 of what a value holds, the same in every process and for every equal value.

    Objects are taken apart as :mod:`copy` does, so nothing is left out: a transform's every argument, a network's every
    weight, a function's code with its defaults and what it encloses. Only the globals that a function uses are known by
    their names alone. The order of a set does not matter, that of a dictionary does.

    Args:
        value: plain values, containers, tensors, arrays, functions, objects of any class that can be copied.
        files: take what is on the disk into account: of every path in it, wherever it stands, the file's size and time,
            of a folder those of the files in it; and the source of every class. A text is a path when it has a
            separator and something is there, or a suffix and there is such a file.

    Returns:
        64 hexadecimal digits.

    Raises:
        TypeError: when it holds what cannot be copied, such as a lock or an open file.

    Example::

        print(hash_contents({"image": "1.png", "boxes": torch.zeros(1, 4)}))
    """
    return _Hasher(files).digest(value).hex()


class _Hasher:
    """Hashes values by the hashes of their parts; each object once, wherever it is met."""

    def __init__(self, files: bool = False) -> None:
        self.files = files
        self.known: dict[int, tuple[Any, bytes]] = {}  # an object is kept here, for its id must not be given again

    def digest(self, value: Any) -> bytes:
        """The hash of a value."""
        if isinstance(value, _PLAIN) and type(value) in _PLAIN:
            parts = [repr(value).encode("utf-8", "surrogatepass")]
            if self.files and isinstance(value, str):
                # a word alone may be the name of a folder by chance
                is_path = os.sep in value or (os.path.splitext(value)[1] and os.path.isfile(value))
                parts += _on_disk(value) if is_path else []
            return _sha(type(value).__name__, *parts)
        if id(value) not in self.known:
            self.known[id(value)] = value, _sha("itself")  # as its own parts see it
            kind, inner = self._parts(value)
            self.known[id(value)] = value, _sha(kind, *inner)
        return self.known[id(value)][1]

    def _each(self, *values: Any) -> Iterator[bytes]:
        return map(self.digest, values)

    def _parts(self, value: Any) -> tuple[str, Iterator[bytes]]:
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if isinstance(value, (bytes, bytearray)):
            return name, iter([bytes(value)])
        if isinstance(value, torch.Tensor):
            content = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
            return "tensor", iter([f"{value.dtype} {tuple(value.shape)}".encode(), content])
        if isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
            return name, iter([f"{value.dtype.descr} {value.shape}".encode(), value.tobytes()])
        if self.files and isinstance(value, os.PathLike):
            return name, iter([*self._each(os.fspath(value)), *_on_disk(os.fspath(value))])
        if self.files and isinstance(value, type):
            return name, iter([*self._each(*_named_parts(value)), _source_of(value.__module__)])
        if kind in (set, frozenset):
            return name, iter(sorted(self._each(*value)))
        if kind in (list, tuple):
            return name, self._each(*value)
        if kind in (dict, types.MappingProxyType):
            return name, self._each(*(part for item in value.items() for part in item))
        return name, self._each(*_named_parts(value) or _code_parts(value) or _copied_parts(value))


def _on_disk(path: str) -> list[bytes]:
    """Size and time of a file, or of the files of a folder with their names; nothing where nothing is there."""
    try:
        status = os.stat(path)
        if not stat.S_ISDIR(status.st_mode):
            return [f"{status.st_size} {status.st_mtime_ns}".encode()]
        with os.scandir(path) as entries:
            found = sorted((entry.name, entry.stat()) for entry in entries if not entry.name.startswith("."))
    except (OSError, ValueError):  # no path, but a text
        return []
    files = [(name, status) for name, status in found if stat.S_ISREG(status.st_mode)]
    return [f"{name} {status.st_size} {status.st_mtime_ns}".encode("utf-8", "surrogatepass") for name, status in files]


@cache
def _source_of(module: str) -> bytes:
    """The hash of a module's source; of this package that of all that makes items, for its classes use each other."""
    file = getattr(sys.modules.get(module), "__file__", None)
    package = Path(__file__).parents[1]
    if not file or not file.endswith(".py"):
        return b""
    parts = [package / part for part in ("io", "networks", "transforms", "utils")]
    own = Path(file).is_relative_to(package)
    files = [path for part in parts for path in sorted(part.rglob("*.py"))] if own else [Path(file)]
    return _sha("source", *(path.read_bytes() for path in files if path.is_file()))


def _named_parts(value: Any) -> tuple[Any, ...]:
    """What stands for a value that is known by a name, or by one: a class, a constant, a path."""
    if isinstance(value, (type, types.BuiltinFunctionType, np.ufunc)) and getattr(value, "__self__", None) is None:
        return (getattr(value, "__module__", None), getattr(value, "__qualname__", None) or value.__name__)
    if isinstance(value, types.ModuleType):
        return (value.__name__,)
    if isinstance(value, Enum):
        return (type(value).__qualname__, value.name)
    if isinstance(value, re.Pattern):
        return (value.pattern, value.flags)
    if isinstance(value, os.PathLike):
        return (os.fspath(value),)
    return (str(value),) if isinstance(value, _NAMED) or value is Ellipsis else ()


def _code_parts(value: Any) -> tuple[Any, ...]:
    """What makes a function: its code, its defaults and what it encloses; or a call of one with arguments."""
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return (value.__module__, value.__qualname__, value.__code__, value.__defaults__, value.__kwdefaults__, cells)
    if isinstance(value, types.CodeType):
        return (value.co_code, value.co_consts, value.co_names, value.co_varnames, value.co_freevars)
    if isinstance(value, (types.MethodType, types.BuiltinMethodType)):
        return (value.__name__, getattr(value, "__func__", None), value.__self__)
    if isinstance(value, partial):
        return (value.func, value.args, value.keywords, vars(value))
    return ()


def _copied_parts(value: Any) -> tuple[Any, ...]:
    """What :func:`copy.copy` would make another such object of."""
    reduce = copyreg.dispatch_table.get(type(value))
    parts = reduce(value) if reduce else value.__reduce_ex__(4)
    if isinstance(parts, str):  # a constant of its module
        return (type(value).__module__, parts)
    return tuple(list(part) if place in (3, 4) and part is not None else part for place, part in enumerate(parts))


def _sha(kind: str, *parts: bytes) -> bytes:
    """The parts are distinguished by their lengths."""
    digest = hashlib.sha256(kind.encode())
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()
