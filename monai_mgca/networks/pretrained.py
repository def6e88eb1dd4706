# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.utils import optional_import
from torch import nn

from monai_mgca.networks.checkpoint import tensors_of
from monai_mgca.networks.image_encoder import ViTImageEncoder
from monai_mgca.networks.naming import listed
from monai_mgca.networks.transfer import load_timm_vit, load_torchvision_resnet
from monai_mgca.utils.errors import CheckpointError

hf_hub_download, _ = optional_import("huggingface_hub", name="hf_hub_download")

__all__ = ["load_image_weights", "load_network"]

logger = logging.getLogger(__name__)


def load_image_weights(encoder: nn.Module, source: str | os.PathLike) -> int:
    """Start an image encoder from general weights: timm's ViT or DeiT, torchvision's ResNet.

    Args:
        encoder: :class:`ViTImageEncoder` or :class:`ResNetImageEncoder`.
        source: a file (.safetensors, .pt, .pth), or a hub name of timm ("timm/deit_base_patch16_224.fb_in1k").

    Returns:
        The number of tensors moved.

    Raises:
        CheckpointError: when the weights cannot be read, reached or moved.

    Example::

        load_image_weights(create_image_encoder("resnet50"), "resnet50-11ad3fa6.pth")
    """
    path = Path(source)
    if not path.is_file():
        try:
            path = Path(hf_hub_download(str(source), "model.safetensors"))
        except Exception as error:  # the hub's client has many errors, and all mean that there is no file
            raise CheckpointError(
                f"The image encoder's weights '{source}' are neither a file nor a hub name that can be reached from "
                "here. Without network, download them where there is one and pass the local file, or None to start "
                "from random weights."
            ) from error
    load = load_timm_vit if isinstance(encoder, ViTImageEncoder) else load_torchvision_resnet
    moved = load(encoder, path)
    logger.info(f"The image encoder starts from {source}: {moved} tensors.")
    return moved


def load_network(network: nn.Module, checkpoint: str | os.PathLike | Mapping[str, Any]) -> int:
    """Load all weights of a network, such as ``model_pretrain.pt`` into :class:`monai_mgca.networks.MGCA`.

    Args:
        network: whose every tensor must be in the checkpoint, and no other.
        checkpoint: path or state dict, also one under "model" or "state_dict".

    Returns:
        The number of tensors.

    Raises:
        CheckpointError: naming the tensors that are missing, foreign or of another shape.

    Example::

        load_network(ImageEmbedder(encoder, head), "bundles/mgca/models/model.pt")
    """
    state, wanted = tensors_of(checkpoint), network.state_dict()
    problems = {
        "missing": [key for key in wanted if key not in state],
        "foreign": [key for key in state if key not in wanted],
        "of another shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
            for key, value in wanted.items()
            if key in state and state[key].shape != value.shape
        ],
    }
    if any(problems.values()):
        found = "; ".join(f"{len(keys)} {kind}: {listed(keys)}" for kind, keys in problems.items() if keys)
        name = "The checkpoint" if isinstance(checkpoint, Mapping) else f"The checkpoint '{checkpoint}'"
        raise CheckpointError(
            f"{name} is of another architecture ({found}). Build the network with the settings it was made with: "
            "image_encoder, image_size, report_encoder, embed_dim and hidden_dim."
        )
    network.load_state_dict(state)
    return len(state)
