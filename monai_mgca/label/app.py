# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The MONAI Label app: which models, trainers and strategies it offers."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from fastapi import HTTPException
from monailabel.config import settings as server_settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask

from monai_mgca import __version__
from monai_mgca.label.active.active_learning import Disagreement, Diversity, TextQuery, UncertaintyDiversity
from monai_mgca.label.active.embedding_scoring import EmbeddingScoring
from monai_mgca.label.active.study_embeddings import StudyEmbeddings
from monai_mgca.label.infers.grounding_infer import PhraseInfer
from monai_mgca.label.infers.outlier_check import OutlierCheck
from monai_mgca.label.infers.task_infers import ClassificationInfer, DetectionInfer, SegmentationInfer, cause_of
from monai_mgca.label.label_settings import NAMES, LabelSettings
from monai_mgca.label.request_values import number
from monai_mgca.label.sessions import ContainedSessions, remove_old
from monai_mgca.label.store.pacs_datastore import connect as connect_radiographs
from monai_mgca.label.store.pacs_volumes import connect as connect_volumes
from monai_mgca.label.store.radiograph_datastore import RadiographDatastore
from monai_mgca.label.store.volume_datastore import VolumeDatastore
from monai_mgca.label.trainers import BundleTrain
from monai_mgca.utils import CheckpointError, DataError
from monai_mgca.utils.console import guard_console
from monai_mgca.utils.errors import StorageError, first_cause

__all__ = ["MGCAApp"]

logger = logging.getLogger(__name__)

INFERS = {"segmentation": SegmentationInfer, "detection": DetectionInfer, "classification": ClassificationInfer}
TRAINED = ("segmentation", "detection")
# of a request for a batch
TEXTS = ("device", "gpus", "label_tag")
# of what was sent, in seconds: no request takes as long
MAX_AGE = 3600
# what MONAI Label logs there are whole requests and what is known of images and labels: a patient's data may be in it
QUIET = (
    "monailabel.endpoints",
    "monailabel.datastore",
    "monailabel.interfaces.app",
    "monailabel.interfaces.utils.app",
    "monailabel.utils.async_tasks",
    "__main__",  # monailabel.interfaces.utils.app, where it is a process of its own
)


class MGCAApp(MONAILabelApp):
    """The app that MONAI Label's server runs: our models on the studies of a folder or of a PACS.

    A request for what does not exist is answered with an error that says so, and changes nothing; what is wrong with a
    file is reported with its name. An image is one of the datastore's, or one that the client sent with the request or
    as a session: no other file of the server is read.

    Args:
        app_dir: the folder that ``mgca label`` made.
        studies: a folder of radiographs, or the address of a DICOMweb server.
        conf: of MONAI Label's ``--conf``; see :meth:`LabelSettings.load`.

    Raises:
        DataError: when the bundle or the studies do not exist.
    """

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        self.settings = LabelSettings.load(app_dir, conf)
        self._embeddings = StudyEmbeddings(self.settings)
        guard_console()
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
        # it warns of the unknown words of a phrase
        logging.getLogger("monai_mgca.apps.image_text_model").setLevel(logging.ERROR)
        tasks = "segmentation, detection, classification and grounding"
        description = f"Image-report pretraining for {NAMES[self.settings.spatial_dims]}: {tasks}"
        super().__init__(app_dir, studies, dict(conf), "MGCA", description, __version__)
        for name, infer in self._infers.items():
            if problem := infer.problem():
                logger.warning(f"{name} cannot be served, and is not listed: {problem}")
        if "grounding" not in self._infers and (problem := cause_of(self._embeddings.load)):
            logger.warning(f"No strategy mgca_* and no scoring can be served: {problem}")

    def init_datastore(self) -> Datastore:
        if self.studies.startswith(("http://", "https://")):
            connect = connect_volumes if self.settings.spatial_dims == 3 else connect_radiographs
            return connect(self.studies, self.settings.app_dir / "dicomweb")
        kind = VolumeDatastore if self.settings.spatial_dims == 3 else RadiographDatastore
        return kind(
            self.studies,
            server_settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            server_settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def init_infers(self) -> dict[str, InferTask]:
        outliers = OutlierCheck(self.settings)
        infers: dict[str, InferTask] = {
            name: infer(self.settings, outliers) for name, infer in INFERS.items() if name in self.settings.models
        }
        if "grounding" in self.settings.models:
            infers["grounding"] = PhraseInfer(self.settings, self._some_studies, outliers)
        return infers

    def init_trainers(self) -> dict[str, TrainTask]:
        return {name: BundleTrain(self.settings, name) for name in TRAINED if name in self.settings.models}

    def init_strategies(self) -> dict[str, Strategy]:
        heads = {name: self._infers[name] for name in ("classification", "segmentation") if name in self._infers}
        return {
            **super().init_strategies(),
            "mgca_diversity": Diversity(self._embeddings),
            "mgca_text": TextQuery(self._embeddings),
            "mgca_disagreement": Disagreement(self._embeddings),
            "mgca_uncertainty": UncertaintyDiversity(self._embeddings, heads),
        }

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        return {"mgca_embeddings": EmbeddingScoring(self._embeddings)}

    def server_mode(self, mode: bool) -> None:
        super().server_mode(mode)
        if mode:  # what clients send goes to a place that is known, and the owner's alone
            self.received_dir.mkdir(mode=0o700, exist_ok=True)
            tempfile.tempdir = str(self.received_dir)

    @property
    def received_dir(self) -> Path:
        """Folder of what clients send, while it is worked on."""
        return self.settings.app_dir / "tmp"

    def cleanup_sessions(self) -> None:
        """MONAI Label does this at the start and every five minutes; what came with a refused request it leaves."""
        super().cleanup_sessions()
        remove_old(self.received_dir, MAX_AGE)

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        _need(self._infers, request.get("model"), "model")
        self._check_image(request.get("image"), datastore or self.datastore())
        with answering():
            return super().infer(request, datastore)

    def infer_wsi(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        kind = NAMES[self.settings.spatial_dims].capitalize()
        raise HTTPException(400, f"{kind} are no slides: POST /infer/ is for them.")

    def batch_infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """As MONAI Label's; an image that fails is reported with its error, and the others go on."""
        _need(self._infers, request.get("model"), "model")

        def infer(one: dict[str, Any], store: Datastore) -> dict[str, Any]:
            try:
                return self.infer(one, store)
            except HTTPException as error:
                return {"error": error.detail}
            except Exception as error:  # whatever it is, it is this image's
                logger.exception(f"{one['model']} failed for {one['image']}")
                return {"error": f"{type(error).__name__}: see the server's log."}

        request = {**request, **_of_batch(request)}
        if not torch.cuda.is_available():  # MONAI Label would divide by the number of GPUs
            request = {**request, "multi_gpu": False}
        return self._batch_infer(request, datastore or self.datastore(), infer)

    def train(self, request: dict[str, Any]) -> dict[str, Any]:
        _need(self._trainers, request.get("model"), "model to train")
        # a training's own process would ask the server for it by HTTP, and fail where that listens elsewhere
        self._auto_update_scoring = False
        with answering():
            return super().train(request)

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        _need(self._strategies, request.get("strategy") or "random", "strategy")
        # embeddings are refreshed where they are used; after POST /reload the server would ask itself by HTTP, and hang
        self._auto_update_scoring = False
        with answering():
            return super().next_sample(request)

    def scoring(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        _need(self._scoring_methods, request.get("method"), "scoring method")
        with answering():
            return super().scoring(request, datastore)

    def bundle_path(self, model: str | None) -> str | None:
        """MONAI Label asks for it before any training or batch starts in another process: the time to refuse."""
        if model is not None:
            _need({**self._infers, **self._trainers}, model, "model")
        # where this is none, MONAI Label imports modules of the folder that the client names
        return os.devnull

    def model_file(self, model: str, validate: bool = True) -> str | None:
        """Weights that this server trained: MONAI Label lets clients fetch and delete them. The bundle's are not."""
        if not validate:  # asked by an upload of weights, which come without what is to be known of them
            raise HTTPException(403, "Weights are not replaced over HTTP: train, or put them into the app's models/.")
        _need(self._infers, model, "model")
        path = self.settings.trained_dir / f"model_{model}.pt"
        return str(path) if path.is_file() else None

    def _load_sessions(self, load: bool = False) -> ContainedSessions | None:
        if not load:
            return None
        place = server_settings.MONAI_LABEL_SESSION_PATH or str(self.settings.app_dir / "sessions")
        return ContainedSessions(place, server_settings.MONAI_LABEL_SESSION_EXPIRY)

    def _check_image(self, image: Any, datastore: Datastore) -> None:
        if not isinstance(image, str) or not image or "\0" in image:
            raise HTTPException(400, "image: name an image of the datastore, send a file, or name a session.")
        if datastore.knows(image):
            if os.path.exists(image):  # MONAI Label would take it for a path
                raise HTTPException(409, f"'{image}' is also a file where the server was started: start it elsewhere.")
            return
        sent = [tempfile.gettempdir(), *([self._sessions.store_path] if self._sessions else [])]
        if not any(_is_inside(image, place) for place in sent):
            raise HTTPException(404, f"There is no image '{image}'; GET /datastore/?output=all lists all.")
        if not os.path.isfile(image) and self.settings.spatial_dims == 2:
            raise HTTPException(400, "A radiograph is one file: send one.")

    def _some_studies(self) -> Iterator[str]:
        """Paths of all studies in an order that has nothing to do with them, and stays when some are added."""
        store = self.datastore()
        for image_id in sorted(store.list_images(), key=lambda name: hashlib.sha256(name.encode()).digest()):
            try:
                yield store.get_image_uri(image_id)
            except HTTPException:  # a series of a PACS that is no radiograph, or no volume
                continue


@contextmanager
def answering() -> Iterator[None]:
    """What is wrong with a request, a file or weights becomes an answer to the client, in one sentence."""
    try:
        yield
    except (DataError, CheckpointError, RuntimeError) as error:
        cause = first_cause(error)
        if isinstance(cause, (DataError, CheckpointError)):
            raise HTTPException(400, str(cause)) from None
        raise
    except StorageError as error:
        raise HTTPException(507, str(error)) from None


def _is_inside(path: str, folder: str) -> bool:
    """By their real paths."""
    return Path(folder).resolve() in Path(path).resolve().parents


def _of_batch(request: Mapping[str, Any]) -> dict[str, int]:
    """The numbers of a request for a batch; MONAI Label would fail itself where a value is of another type."""
    images = request.get("images", "all")
    texts = [*(images if isinstance(images, list) else [images]), *(request.get(key, "") for key in TEXTS)]
    if not all(isinstance(text, str) for text in texts):
        raise HTTPException(400, f"images, {', '.join(TEXTS)} are texts; images may be a list of them.")
    return {key: int(number({key: request.get(key) or 0}, key, 0, 2**31)) for key in ("max_batch_size", "max_workers")}


def _need(known: Mapping[str, Any], name: Any, what: str) -> None:
    if not isinstance(name, str) or name not in known:
        raise HTTPException(404, f"There is no {what} '{name}'; there is {', '.join(known) or 'none'}.")
