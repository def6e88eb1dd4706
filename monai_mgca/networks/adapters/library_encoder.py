# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Builds other libraries' image encoders by name, and names them so that they are rebuilt without their folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai_mgca.networks.encoder_names import EncoderName, parse_encoder_name
from monai_mgca.networks.image_encoder import ImageEncoder

__all__ = ["create_library_encoder", "rebuilding_name"]


def create_library_encoder(name: EncoderName, image_size: Sequence[int] | int, **kwargs: Any) -> ImageEncoder:
    """An image encoder of another library, which is imported here alone.

    Args:
        name: of :func:`parse_encoder_name`.
        image_size: pixels of the images.
        kwargs: ``in_channels``, ``checkpointing`` and, for MONAI, ``spatial_dims``.

    Raises:
        ValueError: when the library cannot build it.

    Example::

        name = parse_encoder_name("monai:SegResNet(init_filters=8)")
        print(create_library_encoder(name, image_size=64).strides)  # (1, 2, 4, 8)
    """
    arguments = {"image_size": image_size, **kwargs, **name.arguments}
    if name.library == "monai":
        from monai_mgca.networks.adapters.monai_encoder import MONAIImageEncoder

        return MONAIImageEncoder(name.network, **arguments)
    if arguments.pop("spatial_dims", 2) != 2:
        raise ValueError(f"Networks of {name.library} are for images, not volumes: take monai:SwinUNETR or alike.")
    if name.library == "timm":
        from monai_mgca.networks.adapters.timm_encoder import TimmImageEncoder

        return TimmImageEncoder(name.network, **arguments)
    from monai_mgca.networks.adapters.transformers_encoder import TransformersImageEncoder

    return TransformersImageEncoder(name.network, **arguments)


def rebuilding_name(name: str) -> str:
    """The name that builds the same network from the settings of its weights, where no folder of a library is needed.

    Args:
        name: of :func:`create_image_encoder`.

    Returns:
        The same, but for "hf:FOLDER" and "timm:FOLDER": the model's type with what its config says.

    Example::

        print(rebuilding_name("resnet_compact"))  # resnet_compact
    """
    other = parse_encoder_name(name)
    if other is None or other.library == "monai":
        return name
    if other.library == "timm":
        from monai_mgca.networks.adapters import timm_encoder

        return timm_encoder.rebuilding_name(other.network, other.arguments)
    from monai_mgca.networks.adapters import transformers_encoder

    return transformers_encoder.rebuilding_name(other.network, other.arguments)
