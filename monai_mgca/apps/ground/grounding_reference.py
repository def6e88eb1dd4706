# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The reference features of grounding, which are kept beside the weights."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from monai_mgca.apps.ground.phrase_grounder import WINDOWS, usual_features
from monai_mgca.apps.image_text_model import load_pretrained
from monai_mgca.io.embedding_file import fingerprint_of
from monai_mgca.utils import DataError
from monai_mgca.utils.dist import rank
from monai_mgca.utils.files import remove_unfinished, replacing
from monai_mgca.utils.signals import was_stopped
from monai_mgca.weights import read_model_settings

__all__ = ["read_reference", "reference_path", "write_reference"]

logger = logging.getLogger(__name__)

FINGERPRINT = "weights"
# the method of maps without any option; what is usual for the other takes as long again
KEPT = "attribution"
# bytes; of a ResNet-18 on volumes of 160 voxels it is 4 MB
LARGEST = 2**27


def reference_path(checkpoint: str | os.PathLike) -> Path:
    """Where what is usual in the images of a pretraining stands: ``model_pretrain_reference.safetensors``."""
    path = Path(checkpoint)
    return path.with_name(f"{path.stem}_reference.safetensors")


def write_reference(
    checkpoint: str | os.PathLike,
    data: Sequence[Mapping[str, Any]],
    device: torch.device | str | None = None,
    count: int = 64,
) -> None:
    """Keep beside a pretraining's weights what is usual in its images, so that grounding needs none of them later.

    It is for the end of a training, and does nothing where that was stopped or wrote no weights, or where it would be
    larger than 128 MiB, as of a vision transformer whose patches are small for its volumes.

    Args:
        checkpoint: ``model_pretrain.pt`` of the training.
        data: its entries, of whose first images the mean features are taken.
        device: where to compute.
        count: of the images.

    Example::

        write_reference("models/model_pretrain.pt", [{"image": "1.png"}, {"image": "2.png"}])
    """
    settings = read_model_settings(checkpoint)
    if rank() > 0 or was_stopped() or not settings:
        return
    if not isinstance(settings.get("preprocessing"), list):  # it could not travel, and nothing will use these weights
        return
    if settings.get("window_size"):
        logger.info(f"No reference for grounding is kept: {WINDOWS}")
        return
    model = load_pretrained(checkpoint, device)
    try:
        usual = usual_features(model, data[:count], KEPT)
    except NotImplementedError as error:  # of a user's own encoder
        logger.info(f"No reference for grounding is kept: {error}")
        return
    if sum(part.nbytes for part in usual) > LARGEST:
        logger.info("No reference for grounding is kept, which would be larger than 128 MiB: give --dataset-dir to it.")
        return
    tensors = {f"{KEPT}.{number}": part.cpu().contiguous() for number, part in enumerate(usual)}
    path = reference_path(checkpoint)
    remove_unfinished(path.parent, path.name)  # of a training that was killed here
    with replacing(path) as temporary:
        # not its own save_file: only the user could read that, and a full disk would be no OSError
        temporary.write_bytes(save(tensors, {FINGERPRINT: fingerprint_of([checkpoint], None)}))


def read_reference(checkpoint: str | os.PathLike) -> dict[str, list[torch.Tensor]] | None:
    """What :func:`write_reference` kept, for :class:`PhraseGrounder`.

    Args:
        checkpoint: ``model_pretrain.pt``.

    Returns:
        The features by the method that they are for; None where there are none of these weights.

    Raises:
        DataError: when the file is damaged.
    """
    path = reference_path(checkpoint)
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get(FINGERPRINT) != fingerprint_of([checkpoint], None):
                logger.warning(f"{path} is of other weights than {Path(checkpoint).name}, and is not used.")
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dictionary
    except SafetensorError as error:
        raise DataError(f"{path} is damaged ({error}): delete it, and give --dataset-dir.") from None
    return {KEPT: [tensors[name] for name in sorted(tensors)]}
