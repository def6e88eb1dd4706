# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Rows of numbers per study, kept on disk and refreshed where a file changed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fastapi import HTTPException
from filelock import FileLock, Timeout

from monai_mgca.io.embedding_file import read_embeddings, save_embeddings
from monai_mgca.label.store.held_folder import HeldFolder
from monai_mgca.utils import DataError

__all__ = ["Rows", "refresh_rows"]

logger = logging.getLogger(__name__)

# so many are computed between two writes: what was computed is not lost
CHUNK = 1024
# seconds that a request waits while another process computes: MONAI Label answers no other request in the meantime
PATIENCE = 5


@dataclass(frozen=True)
class Rows:
    """A vector for each id, and what a refresh did.

    Args:
        ids: in the order of the rows.
        values: (N, D), float32.
        computed: how many are new or were recomputed.
        removed: how many are no longer asked for.
    """

    ids: list[str]
    values: np.ndarray
    computed: int
    removed: int


def refresh_rows(
    path: Path,
    fingerprint: str,
    states: Mapping[str, str],
    compute: Callable[[Sequence[str]], Mapping[str, np.ndarray]],
    chunk: int | None = None,
) -> Rows:
    """Bring a file of vectors up to date: only what is new or has changed is computed.

    Several processes may do so at a time; the file is written whole or not at all, now and then on a long way.

    Args:
        path: of the npz file; neither it nor its folder may be a link.
        fingerprint: of what computes; when it changes, all is recomputed.
        states: what each id's vector is computed from, such as a file's size and time; those that are no longer here
            are dropped.
        compute: gives vectors of ids; those that it leaves out get no row, and are tried again the next time.
        chunk: so many are computed between two writes; 1024 unless given.

    Returns:
        The rows, in the order of `states`.

    Raises:
        HTTPException: when another process computes for longer than a few seconds; 503.
        DataError: when the folder is a link.

    Example::

        states = {"a": "1", "b": "1"}
        rows = refresh_rows(Path("rows.npz"), "sha256:0", states, lambda ids: {i: np.ones(2, np.float32) for i in ids})
        print(rows.ids, rows.computed)  # ['a', 'b'] 2
    """
    path = path.absolute()
    # beside the folder, which somebody could replace
    place = path.parent.with_name(f"{path.parent.name}-{path.name}.lock")
    try:
        lock = FileLock(place, timeout=PATIENCE).acquire()
    except Timeout:
        raise HTTPException(
            503, "Another process is computing the studies' embeddings, see GET /scoring/. Ask again in a while."
        ) from None
    except OSError as error:
        raise DataError(f"{place.name} among the studies is a link or folder ({error.strerror}): remove it.") from None
    with lock:
        return _refresh(path, fingerprint, states, compute, chunk or CHUNK)


def _refresh(
    path: Path,
    fingerprint: str,
    states: Mapping[str, str],
    compute: Callable[[Sequence[str]], Mapping[str, np.ndarray]],
    chunk: int,
) -> Rows:
    stored = _stored(path, fingerprint)
    rows = {name: value for name, (state, value) in stored.items() if states.get(name) == state}
    removed = sum(name not in states for name in stored)
    missing = [name for name in states if name not in rows]
    kept = len(rows)
    for start in range(0, len(missing), chunk):
        if found := compute(missing[start : start + chunk]):
            if len({value.shape for value in [*rows.values(), *found.values()]}) > 1:  # of somebody's: all are computed
                _write(path, fingerprint, states, {})
                return _refresh(path, fingerprint, states, compute, chunk)
            rows |= found
            _write(path, fingerprint, states, rows)
    if removed and len(rows) == kept:
        _write(path, fingerprint, states, rows)
    ids = [name for name in states if name in rows]
    values = np.stack([rows[name] for name in ids]) if ids else np.zeros((0, 1), np.float32)
    return Rows(ids, values, len(rows) - kept, removed)


def _stored(path: Path, fingerprint: str) -> dict[str, tuple[str, np.ndarray]]:
    """State and vector of each id, as they were kept; none where somebody else wrote the file."""
    try:
        old = read_embeddings(path, fingerprint) or {
            "ids": np.zeros(0),
            "states": np.zeros(0),
            "values": np.zeros((0, 1)),
        }
        ids, states, values = (np.array(old[key]) for key in ("ids", "states", "values"))
        if values.ndim != 2 or not np.isfinite(values).all():
            raise ValueError("no vectors")
        return dict(zip(ids.tolist(), zip(states.tolist(), values, strict=True), strict=True))
    except (KeyError, TypeError, ValueError):
        logger.warning(f"{path} holds other things than were written: recomputed.")
        return {}


def _write(path: Path, fingerprint: str, states: Mapping[str, str], rows: Mapping[str, np.ndarray]) -> None:
    with HeldFolder(path.parent.parent, path.parent.name) as folder:
        if not rows:
            folder.remove(path.name)
            return
        names = [name for name in states if name in rows]
        arrays = {"ids": np.array(names), "states": np.array([states[name] for name in names])}
        arrays["values"] = np.stack([rows[name] for name in names])
        folder.write(path.name, lambda file: save_embeddings(file, arrays, fingerprint))
