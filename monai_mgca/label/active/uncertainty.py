# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""How uncertain the models are about each study."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import numpy as np
import torch
from monailabel.interfaces.datastore import Datastore

from monai_mgca.io.embedding_file import fingerprint_of
from monai_mgca.label.active.row_store import refresh_rows
from monai_mgca.label.infers.task_infers import BundleInfer
from monai_mgca.utils.errors import first_cause
from monai_mgca.weights.calibration_file import calibration_path

__all__ = ["entropies_of", "entropy"]

logger = logging.getLogger(__name__)


def entropies_of(
    infer: BundleInfer, names: Sequence[str], datastore: Datastore, seconds: float = np.inf
) -> dict[str, float]:
    """How unsure a finetuned network is of images, computed once for its weights and kept beside the studies.

    Args:
        infer: the network, with weights.
        names: ids of the images, in the order in which to compute; those of others are forgotten.
        datastore: with a ``work_dir``.
        seconds: after which no other image is begun; the next call goes on with the rest.

    Returns:
        Mean entropy of all classes, and for segmentation of all pixels, for the images that have one by now: one at
        least, unless it cannot be read.
    """
    weights = infer.settings.weights(infer.task)
    if weights is None:
        return {}
    end = time.monotonic() + seconds

    def compute(some: Sequence[str]) -> dict[str, np.ndarray]:
        rows: dict[str, np.ndarray] = {}
        for name in some:
            if name == names[0] or time.monotonic() < end:
                try:
                    rows[name] = np.array([entropy(infer.probabilities(datastore.get_image_uri(name)))], np.float32)
                except RuntimeError as error:  # MONAI's, around the file's
                    logger.warning(f"{infer.task} cannot say how sure it is: {first_cause(error)}")
        return rows

    calibration = calibration_path(weights)
    of_weights = [weights, weights.with_suffix(".json"), *([calibration] if calibration.is_file() else [])]
    fingerprint = fingerprint_of(of_weights, None)
    states = {name: datastore.image_state(name) for name in names}
    rows = refresh_rows(datastore.work_dir / f"uncertainty_{infer.task}.npz", fingerprint, states, compute)
    return dict(zip(rows.ids, rows.values[:, 0].tolist(), strict=True))


def entropy(probabilities: torch.Tensor) -> float:
    """Mean binary entropy in bits: 0 for sure, 1 for not at all.

    Args:
        probabilities: of any shape.
    """
    p = probabilities.double().clamp(1e-7, 1 - 1e-7)
    return float(-(p * p.log2() + (1 - p) * (1 - p).log2()).mean())
