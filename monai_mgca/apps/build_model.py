# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The networks and the transforms that the settings of a pretraining's weights describe."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from monai.transforms import Compose

from monai_mgca.networks import MGCA, ImageEncoder, ReportEncoder, create_image_encoder
from monai_mgca.transforms import default_preprocessing, restore_preprocessing
from monai_mgca.utils import CheckpointError, DataError

__all__ = ["build_image_encoder", "build_network", "image_transform"]


def image_transform(settings: Mapping[str, Any]) -> Compose:
    """What the validation of a pretraining did to an image: what the configs do, where the settings say nothing.

    Args:
        settings: of the weights.

    Raises:
        CheckpointError: when the steps could not travel with the weights, or those of volumes are not there.
    """
    if settings.get("preprocessing"):
        return Compose(restore_preprocessing(settings))
    if settings.get("spatial_dims", 2) != 2:
        raise CheckpointError("The settings of these weights do not say what was done to a volume: train again.")
    return Compose(default_preprocessing(*(settings[name] for name in ("image_size", "in_channels", "resize_size"))))


def build_image_encoder(settings: Mapping[str, Any]) -> ImageEncoder:
    """The image encoder that the settings of weights describe, of images or of volumes, with new weights.

    Args:
        settings: with "image_encoder", "image_size" and "in_channels", of volumes also "spatial_dims" and
            "patch_size", and "window_size" of one that sees windows.
    """
    of_volumes = {name: settings[name] for name in ("spatial_dims", "patch_size") if settings.get(name) is not None}
    sizes = {"in_channels": settings["in_channels"], **of_volumes}
    size = settings.get("window_size") or settings["image_size"]
    return create_image_encoder(settings["image_encoder"], size, **sizes)


def build_network(settings: Mapping[str, Any], checkpoint: str | os.PathLike, random: bool) -> MGCA:
    """The network that the settings describe, with new weights.

    Args:
        settings: of the weights.
        checkpoint: the weights, for messages.
        random: the network is to keep these weights: an encoder of reports has those that its pretraining began with.

    Raises:
        DataError: when the encoder of reports is not where the settings say.
    """
    official, begins = bool(settings.get("official_quirks")), random and not settings["use_sample"]
    source = settings.get("report_encoder_source", settings["report_encoder"]) if begins else settings["report_encoder"]
    try:
        text = ReportEncoder(
            source,
            begins,
            settings["report_layers"],
            official_embeddings=official,
            official_attention=official,
        )
    except ValueError as error:
        raise DataError(f"The settings of {checkpoint} name an encoder of reports that is not there. {error}") from None
    image = build_image_encoder(settings)
    names = ("embed_dim", "hidden_dim", "num_prototypes", "matcher", "matcher_heads", "pool_report")
    options: dict[str, Any] = {"mask_padding": not official, "window_size": settings.get("window_size")}
    return MGCA(image, text, **options, **{name: settings[name] for name in names})
