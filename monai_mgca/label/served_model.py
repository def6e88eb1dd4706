# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The pretraining that the server searches and grounds with: of what its studies are."""

from __future__ import annotations

from monai_mgca.apps import PretrainedModel, load_pretrained
from monai_mgca.label.label_settings import LabelSettings

__all__ = ["load_served_model"]


def load_served_model(settings: LabelSettings) -> PretrainedModel:
    """The pretraining's model, refused where it is of volumes and the studies are radiographs, or the other way round.

    Args:
        settings: of the app.

    Raises:
        CheckpointError: when it is; as :func:`monai_mgca.apps.load_pretrained`.
    """
    settings.check_dims(settings.pretrained, "model.json")
    return load_pretrained(settings.pretrained, settings.device)
