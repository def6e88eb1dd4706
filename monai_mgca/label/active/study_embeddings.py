# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The embeddings of the studies on the server, computed in the background."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastapi import HTTPException
from monai.utils import CommonKeys
from monailabel.interfaces.datastore import Datastore

from monai_mgca.apps import PretrainedModel
from monai_mgca.io.embedding_file import fingerprint_of
from monai_mgca.label.active.row_store import Rows, refresh_rows
from monai_mgca.label.label_settings import LabelSettings
from monai_mgca.label.served_model import load_served_model
from monai_mgca.label.store.file_state import file_state
from monai_mgca.utils.console import name_some
from monai_mgca.utils.errors import first_cause
from monai_mgca.utils.progress import progress_bar

__all__ = ["Studies", "StudyEmbeddings"]

logger = logging.getLogger(__name__)

# of texts at a time
BATCH = 32
# By the studies' dimensions: images at a time, and threads that load them. A CT has hundreds of megabytes while it is
# loaded, and seconds pass: one is loaded at a time, and what was computed is written sooner.
IMAGES, THREADS, CHUNK = {2: 32, 3: 4}, {2: 16, 3: 1}, {2: None, 3: 16}


@dataclass
class Studies:
    """What the representation knows of all studies of a datastore.

    Args:
        ids: of the images that can be read.
        images: (N, D) unit vectors.
        agreement: the cosine of each image and its own report, for those that have one.
        computed: how many images or reports were new or had changed.
        removed: how many images are gone.
        unreadable: why, for each image that cannot be read.
    """

    ids: list[str]
    images: torch.Tensor
    agreement: dict[str, float]
    computed: int
    removed: int
    unreadable: dict[str, str] = field(default_factory=dict)

    def rows_of(self, ids: Sequence[str]) -> list[int]:
        """Rows of those of the ids that can be read."""
        places = {name: row for row, name in enumerate(self.ids)}
        return [places[name] for name in ids if name in places]


class StudyEmbeddings:
    """Embeddings of all images and reports of a datastore, computed once and kept beside it.

    They are refreshed at each call: what is new or has changed is computed, all of it after another pretraining.

    Args:
        settings: of the app.
    """

    def __init__(self, settings: LabelSettings) -> None:
        self.settings = settings
        self._loaded: tuple[int, PretrainedModel, str] | None = None
        self._lock = threading.Lock()

    def __call__(self, datastore: Datastore) -> Studies:
        """
        Args:
            datastore: with a ``work_dir``, where the embeddings are kept.

        Raises:
            HTTPException: when there is no pretraining (409), or another process is computing (503).
            CheckpointError: when the pretraining cannot be loaded.
        """
        model, fingerprint = self.load()
        unreadable: dict[str, str] = {}

        def ask(what: Callable[[str], str], names: Iterable[str]) -> dict[str, str]:
            """What the datastore says of those images that it can give."""
            found = {}
            for name in names:
                try:
                    found[name] = what(name)
                except OSError as error:
                    unreadable[name] = f"The file of '{name}' cannot be read: {error.strerror}."
                except HTTPException as error:
                    if error.status_code >= 500:  # a PACS that does not answer: what is known of its images is kept
                        raise
                    unreadable[name] = str(error.detail)
            return found

        def embed(names: Sequence[str]) -> dict[str, np.ndarray]:
            vectors, failed = _embed_images(model, ask(datastore.get_image_uri, names))
            unreadable.update(failed)
            return vectors

        states = ask(datastore.image_state, sorted(datastore.list_images()))

        chunk = CHUNK[model.spatial_dims]
        images = refresh_rows(datastore.work_dir / "images.npz", fingerprint, states, embed, chunk)
        reports = self._reports(model, fingerprint, images.ids, datastore)
        if unreadable:
            logger.warning(f"{len(unreadable)} studies cannot be read: {name_some(sorted(unreadable), 20)}")
        rows = {name: row for row, name in enumerate(images.ids)}
        agreement = {
            name: float(images.values[rows[name]] @ vector)
            for name, vector in zip(reports.ids, reports.values, strict=True)
        }
        vectors = torch.from_numpy(images.values)
        return Studies(images.ids, vectors, agreement, images.computed + reports.computed, images.removed, unreadable)

    def embed_text(self, text: str) -> torch.Tensor:
        """(D,) unit vector of a query, on the CPU.

        Raises:
            DataError: when the text is empty, too long, or has no known word.
        """
        return self.load()[0].embed_texts([text])[0].cpu()

    def _reports(self, model: PretrainedModel, fingerprint: str, ids: Sequence[str], datastore: Datastore) -> Rows:
        folder = self.settings.reports or Path(datastore.work_dir).parent
        files = {name: folder / f"{name}.txt" for name in ids}
        if not self.settings.reports:  # a folder that others may write to: no link in it leads to another file
            files = {name: path for name, path in files.items() if not path.is_symlink()}
        states = {name: file_state(path) for name, path in files.items() if path.is_file()}

        def embed(names: Sequence[str]) -> dict[str, np.ndarray]:
            texts = {name: files[name].read_text(encoding="utf-8", errors="replace") for name in names}
            texts = {name: text for name, text in texts.items() if model.clean(text)}
            if not texts:
                return {}
            return dict(zip(texts, model.embed_reports(list(texts.values()), BATCH).numpy(), strict=True))

        return refresh_rows(datastore.work_dir / "reports.npz", fingerprint, states, embed)

    def load(self) -> tuple[PretrainedModel, str]:
        """The pretraining's model, and what changes when its weights or settings do."""
        path = self.settings.pretrained
        if not path.is_file():
            raise HTTPException(409, f"There is no {path.name} in the bundle: pretrain first.")
        with self._lock:
            time = path.stat().st_mtime_ns
            if self._loaded is None or self._loaded[0] != time:
                fingerprint = fingerprint_of([path, path.with_name("model.json")], None)
                self._loaded = time, load_served_model(self.settings), fingerprint
            return self._loaded[1:]


@torch.no_grad()
def _embed_images(model: PretrainedModel, paths: Mapping[str, str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Vectors of those that can be read, and why the others cannot."""
    embed, names, batch = model.network.image_embedder(), list(paths), IMAGES[model.spatial_dims]
    vectors: dict[str, np.ndarray] = {}
    failed: dict[str, str] = {}

    def load(name: str) -> Any:
        try:
            return model.image_transform({CommonKeys.IMAGE: paths[name]})[CommonKeys.IMAGE].as_tensor()
        except RuntimeError as error:  # MONAI's, around ours
            return str(first_cause(error))

    with ThreadPool(min(THREADS[model.spatial_dims], os.cpu_count() or 1)) as pool:
        for start in progress_bar(range(0, len(names), batch), "studies"):
            some = names[start : start + batch]
            loaded = dict(zip(some, pool.map(load, some), strict=True))
            failed |= {name: item for name, item in loaded.items() if isinstance(item, str)}
            good = [name for name in loaded if name not in failed]
            if good:
                found = embed(torch.stack([loaded[name] for name in good]).to(model.device)).cpu().numpy()
                vectors |= dict(zip(good, found, strict=True))
    return vectors, failed
