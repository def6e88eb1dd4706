# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Exact search for the nearest embeddings, by torch or by faiss."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.utils import optional_import

from monai_mgca.utils.extras import require_extra

__all__ = ["BACKENDS", "EmbeddingIndex"]

BACKENDS = ("exact", "faiss")
QUERIES_AT_A_TIME = 256
# so many queries make faiss multiply matrices too, and slower than the exact search does
MANY_QUERIES = 20


class EmbeddingIndex:
    """Search of the nearest of many unit vectors: every one is compared, none is left out.

    Args:
        keys: (N, D) unit vectors of one million or more: a tensor, or an array, which may be mapped from a file
            (:func:`read_embeddings`); of any floating type, on any device.
        backend: "exact" looks at a chunk of keys at a time, on the queries' device, and needs memory for one chunk
            besides the keys; keys that score the same stand in their own order. "faiss" gives the same from a faiss
            ``IndexFlatIP`` on the CPU, which holds a copy of all keys, and answers one query faster; which of keys that
            score the same come last among the k is then not defined. 20 queries or more at once are searched as by
            "exact", which is the faster for them.
        chunk: keys looked at at a time.

    Raises:
        DataError: when faiss is asked for and not installed.
        ValueError: when the keys are not (N, D) with N of 1 or more, the chunk is below 1 or the backend has another
            name.

    Example::

        unit = torch.nn.functional.normalize(torch.randn(1000, 16), dim=-1)
        scores, rows = EmbeddingIndex(unit).search(unit[:2], k=5)
        print(rows[:, 0])  # tensor([0, 1])
    """

    def __init__(self, keys: torch.Tensor | np.ndarray, backend: str = "exact", chunk: int = 16384) -> None:
        if keys.ndim != 2 or len(keys) < 1:
            raise ValueError(f"keys must be (N, D) with N of 1 or more, got {tuple(keys.shape)}.")
        if chunk < 1:
            raise ValueError(f"chunk must be 1 or more, got {chunk}.")
        if backend not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}.")
        self.keys, self.chunk = keys, chunk
        self.index: Any = self._faiss_index() if backend == "faiss" else None

    def search(self, queries: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            queries: (Q, D) unit vectors of any floating type, on any device.
            k: keys wanted for each query; with more than N, all N come.

        Returns:
            (Q, min(k, N)) similarities, the highest first, of the queries' type but computed in float32 or finer; and
            (Q, min(k, N)) int64 rows of the keys. Both on the queries' device.

        Raises:
            ValueError: when k is below 1, or the queries are not (Q, D) with the D of the keys.
        """
        if k < 1:
            raise ValueError(f"k must be 1 or more, got {k}.")
        if queries.ndim != 2 or queries.shape[1] != self.keys.shape[1]:
            wanted = f"(Q, {self.keys.shape[1]})"
            raise ValueError(f"queries must be {wanted} as the keys, got {tuple(queries.shape)}.")
        k = min(k, len(self.keys))
        by_faiss = self.index is not None and len(queries) < MANY_QUERIES
        nearest = self._nearest_by_faiss if by_faiss else self._nearest
        fine = queries.to(torch.promote_types(queries.dtype, torch.float32))
        found = [nearest(part, k) for part in fine.split(QUERIES_AT_A_TIME)]
        scores, rows = (torch.cat(parts) for parts in zip(*found, strict=True))
        return scores.to(queries.dtype), rows

    def _nearest(self, queries: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        scores = queries.new_empty((len(queries), 0))
        rows = torch.empty(len(queries), 0, dtype=torch.long, device=queries.device)
        for start in range(0, len(self.keys), self.chunk):
            part = self._part(start).to(queries)
            new_scores, new_rows = stable_topk(queries @ part.T, min(k, len(part)))
            # earlier rows stand first, so that among the same scores the order of columns is that of rows
            scores, rows = torch.cat([scores, new_scores], 1), torch.cat([rows, new_rows + start], 1)
            scores, columns = stable_topk(scores, min(k, scores.shape[1]))
            rows = rows.gather(1, columns)
        return scores, rows

    def _part(self, start: int) -> torch.Tensor:
        part: Any = self.keys[start : start + self.chunk]
        # what is mapped from a file is copied, a chunk at a time
        return part if isinstance(part, torch.Tensor) else torch.from_numpy(np.array(part))

    def _faiss_index(self) -> Any:
        require_extra("faiss", "The backend faiss")
        faiss, _ = optional_import("faiss")  # here: it brings threads and libraries of its own
        index = faiss.IndexFlatIP(self.keys.shape[1])
        for start in range(0, len(self.keys), self.chunk):
            index.add(np.ascontiguousarray(self._part(start).detach().float().cpu().numpy()))
        return index

    def _nearest_by_faiss(self, queries: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        scores, rows = self.index.search(np.ascontiguousarray(queries.detach().float().cpu().numpy()), k)
        rows, order = torch.from_numpy(rows).sort(dim=1)
        scores, columns = torch.from_numpy(scores).gather(1, order).sort(dim=1, descending=True, stable=True)
        return scores.to(queries), rows.gather(1, columns).to(queries.device)


def stable_topk(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k highest of each row and their columns, the highest first, the same scores by their columns.

    Args:
        scores: (Q, N).
        k: 1 to N.

    Example::

        print(stable_topk(torch.tensor([[1.0, 3.0, 1.0, 3.0]]), 3)[1])  # tensor([[1, 3, 0]])
    """
    columns = scores.topk(k).indices.sort(dim=1).values
    values, order = scores.gather(1, columns).sort(dim=1, descending=True, stable=True)
    columns = columns.gather(1, order)
    # topk may take any of those that score as the last one: these rows are sorted whole
    crowded = (scores >= values[:, -1:]).sum(1) > k
    if crowded.any():
        columns[crowded] = scores[crowded].sort(dim=1, descending=True, stable=True).indices[:, :k]
    return values, columns
