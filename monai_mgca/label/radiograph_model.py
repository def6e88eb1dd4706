# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The pretraining that the server searches and grounds with: of radiographs alone."""

from __future__ import annotations

import os

import torch

from monai_mgca.apps import PretrainedModel, load_pretrained
from monai_mgca.utils import CheckpointError
from monai_mgca.weights import read_model_settings

__all__ = ["load_radiograph_model"]


def load_radiograph_model(checkpoint: str | os.PathLike, device: torch.device | str) -> PretrainedModel:
    """The pretraining's model, refused where it is of volumes, which the datastores here do not give.

    Args:
        checkpoint: ``model_pretrain.pt``.
        device: where to compute.

    Raises:
        CheckpointError: when it is of volumes; as :func:`monai_mgca.apps.load_pretrained`.
    """
    if read_model_settings(checkpoint, required=True).get("spatial_dims", 2) != 2:
        raise CheckpointError(f"{checkpoint} was trained on volumes, and this is for radiographs: see docs/volumes.md.")
    return load_pretrained(checkpoint, device)
