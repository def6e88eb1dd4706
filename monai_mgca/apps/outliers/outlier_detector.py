# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Which images are unlike those of a pretraining, by the score that is kept beside its weights."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Compose
from torch import nn

from monai_mgca.apps.build_model import build_image_encoder, image_transform
from monai_mgca.apps.load_images import image_batches
from monai_mgca.apps.probe.features import compute_features
from monai_mgca.data.image_item import ImageLike
from monai_mgca.metrics.outlier_score import OutlierScore, fit_outlier_score
from monai_mgca.networks.windows import WindowEncoder
from monai_mgca.utils import CheckpointError, DataError
from monai_mgca.utils.dist import rank
from monai_mgca.utils.signals import was_stopped
from monai_mgca.weights import (
    load_network,
    outlier_path,
    read_model_settings,
    read_outlier_score,
    write_outlier_score,
)
from monai_mgca.weights.model_settings import naming_settings
from monai_mgca.weights.weight_file import tensors_of

__all__ = ["FeatureMaker", "OutlierDetector", "fit_outliers", "write_outliers"]

logger = logging.getLogger(__name__)

PART = "image_encoder."
# images: of fewer no score is fitted, and fewer are no measure of what was held out
FEWEST = 10
HELD_OUT = 20


class FeatureMaker:
    """The image encoder of a pretraining, and what turns files into its input as the training did.

    Args:
        checkpoint: ``model_pretrain.pt`` or ``model.pt`` of a training.
        device: where to compute; a GPU if there is one.

    Raises:
        CheckpointError: when a file is missing, or the weights are of another architecture.

    Example::

        print(FeatureMaker("models/model.pt")(["1.png"]).shape)
    """

    def __init__(self, checkpoint: str | os.PathLike, device: torch.device | str | None = None) -> None:
        settings = read_model_settings(checkpoint, required=True)
        with naming_settings(checkpoint):
            self.transform: Compose = image_transform(settings)
            self.encoder: nn.Module = build_image_encoder(settings)
        state = tensors_of(checkpoint)
        parts = {key.removeprefix(PART): value for key, value in state.items() if key.startswith(PART)}
        load_network(self.encoder, parts or state)
        self.spatial_dims = int(settings.get("spatial_dims", 2))
        window = settings.get("window_size")
        self._network = WindowEncoder(self.encoder, window) if window else self.encoder
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")

    def __call__(self, images: Sequence[ImageLike], description: str = "features") -> torch.Tensor:
        """
        Args:
            images: N files or entries of a datalist.
            description: text before the progress bar.

        Returns:
            (N, C), before the projection, on the CPU.
        """
        with image_batches(images, self.transform, self.spatial_dims) as batches:
            return compute_features(self._network, batches, self.device, description)


class OutlierDetector:
    """How unlike the training's images others are.

    Args:
        features: of the weights.
        score: that is of them.

    Example::

        detector = OutlierDetector.load("models/model_pretrain.pt")
        print(detector(["1.png"]), detector.score.threshold)
    """

    def __init__(self, features: FeatureMaker, score: OutlierScore) -> None:
        self.features, self.score = features, score

    @classmethod
    def load(cls, checkpoint: str | os.PathLike, device: torch.device | str | None = None) -> OutlierDetector | None:
        """The detector of some weights; None where no score of these weights is beside them.

        Args:
            checkpoint: ``model_pretrain.pt`` or ``model.pt`` of a training.
            device: where to compute; a GPU if there is one.

        Raises:
            CheckpointError: as :class:`FeatureMaker`.
            DataError: when the file of the score is damaged.
        """
        if not outlier_path(checkpoint).is_file():
            return None
        features = FeatureMaker(checkpoint, device)
        score = read_outlier_score(checkpoint, features.encoder)
        return None if score is None else cls(features, score)

    def __call__(self, images: Sequence[ImageLike], description: str = "images") -> torch.Tensor:
        """(N,) distances of N files or entries; those above ``score.threshold`` are unlike the training's images."""
        return self.score.distances(self.features(images, description))


def fit_outliers(
    checkpoint: str | os.PathLike,
    data: Sequence[Mapping[str, Any]],
    held_out: Sequence[Mapping[str, Any]] = (),
    device: torch.device | str | None = None,
    count: int = 2048,
) -> OutlierScore:
    """Fit the outlier score of a pretraining, and keep it beside its weights.

    Args:
        checkpoint: ``model_pretrain.pt`` or ``model.pt`` of the training.
        data: its entries.
        held_out: entries of its validation, to whose distances the threshold is fitted where there are 20 or more.
        device: where to compute.
        count: images of each at most, evenly from all.

    Returns:
        The score.

    Raises:
        DataError: for fewer than ten images, and when their features have no distances.
        CheckpointError: as :class:`FeatureMaker`.

    Example::

        fit_outliers("models/model_pretrain.pt", load_datalist("datalist.json", "training", "."))
    """
    if len(data) < FEWEST:
        raise DataError(f"An outlier score takes {FEWEST} images of the training or more, there are {len(data)}.")
    features = FeatureMaker(checkpoint, device)
    own = features(_evenly(data, count), "outlier score")
    others = features(_evenly(held_out, count), "its threshold") if len(held_out) >= HELD_OUT else None
    try:
        score = fit_outlier_score(own, others)
    except ValueError as error:
        raise DataError(f"{checkpoint} has no outlier score: {error}") from None
    write_outlier_score(checkpoint, score, features.encoder)
    return score


def write_outliers(
    checkpoint: str | os.PathLike,
    data: Sequence[Mapping[str, Any]],
    held_out: Sequence[Mapping[str, Any]] = (),
    device: torch.device | str | None = None,
    count: int = 2048,
) -> None:
    """:func:`fit_outliers` at the end of a training: nothing where that was stopped or wrote no weights.

    Args:
        checkpoint: ``model_pretrain.pt`` of the training.
        data: its entries.
        held_out: entries of its validation.
        device: where to compute.
        count: images at most; 0: no score is kept.

    Example::

        write_outliers("models/model_pretrain.pt", [{"image": "1.png"}], count=0)
    """
    if not count or rank() > 0 or was_stopped():
        return
    # steps that could not travel with the weights: nothing will use them
    if not isinstance(read_model_settings(checkpoint).get("preprocessing"), list):
        return
    try:
        fit_outliers(checkpoint, data, held_out, device, count)
    except (DataError, CheckpointError) as error:
        logger.info(f"No outlier score is kept: {error}")


def _evenly(data: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """So many entries at most, as far from each other as from the next."""
    if len(data) <= count:
        return list(data)
    return [data[number * len(data) // count] for number in range(count)]
