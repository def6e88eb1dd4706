# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The sizes of an official checkpoint's network, read from its tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch

from monai_mgca.networks.image_encoder import ResNetImageEncoder, ViTImageEncoder
from monai_mgca.networks.mgca import MGCA
from monai_mgca.networks.report_encoder import ReportEncoder
from monai_mgca.weights.parameter_names import architecture_of

__all__ = ["encoder_name", "expected_shapes", "read_official_settings"]

VISION, BERT = "image_encoder.backbone.", "report_encoder.model."


def read_official_settings(state: Mapping[str, torch.Tensor], matcher: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Read the arguments that build a network off the shapes of its tensors.

    Attention heads leave no trace in the shapes: they are taken to be 64 wide, as in every published BERT and ViT.

    Args:
        state: tensors by the names of :class:`MGCA`.
        matcher: the arguments of :class:`MGCA` about the matcher.

    Returns:
        "image_encoder", "report_encoder" and "network": arguments of the encoders and of :class:`MGCA`.

    Raises:
        KeyError: with the name of a tensor that is needed and absent.
    """
    names = (key.removeprefix(VISION) for key in state if key.startswith(VISION))
    image = _vit(state) if architecture_of(names) == "vit" else _resnet(state)
    vocabulary, hidden = state[f"{BERT}embeddings.word_embeddings.weight"].shape
    bert = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": _count(state, f"{BERT}encoder.layer."),
        "num_attention_heads": _heads(hidden),
        "intermediate_size": len(state[f"{BERT}encoder.layer.0.intermediate.dense.weight"]),
        "max_position_embeddings": len(state[f"{BERT}embeddings.position_embeddings.weight"]),
    }
    network = {
        "embed_dim": len(state["image_head.linear2.weight"]),
        "hidden_dim": len(state["image_head.linear1.weight"]),
        "num_prototypes": len(state["prototypes.weight"]),
        **matcher,
        "mask_padding": False,
        # the official code scales the image tokens' contexts with a ResNet, but not with a ViT
        "normalize_image_context": "patch_size" not in image,
    }
    report = {"source": bert, "official_embeddings": True, "official_attention": True}
    return {"image_encoder": image, "report_encoder": report, "network": network}


def expected_shapes(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, torch.Size]:
    """Names and shapes of the tensors of the network that ``settings`` build, which takes no memory."""
    image = settings["image_encoder"]
    with torch.device("meta"):
        encoder = ViTImageEncoder(**image) if "patch_size" in image else ResNetImageEncoder(**image)
        network = MGCA(encoder, ReportEncoder(**settings["report_encoder"]), **settings["network"])
    return {key: value.shape for key, value in network.state_dict().items()}


def encoder_name(image: Mapping[str, Any]) -> str | None:
    """The name in :func:`create_image_encoder` of the two encoders that weights were published for."""
    if (image.get("hidden_size"), image.get("num_layers"), image.get("patch_size")) == (768, 12, 16):
        return "vit_base"
    return "resnet50_official" if (image.get("block"), image.get("layers")) == ("bottleneck", [3, 4, 6, 3]) else None


def _vit(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    hidden, channels, patch, _ = state[f"{VISION}patch_embedding.patch_embeddings.weight"].shape
    patches = state[f"{VISION}patch_embedding.position_embeddings"].shape[1]
    return {
        "image_size": patch * math.isqrt(patches),
        "in_channels": channels,
        "cls_position": f"{VISION}cls_position" in state,
        "patch_size": patch,
        "hidden_size": hidden,
        "mlp_dim": len(state[f"{VISION}blocks.0.mlp.linear1.weight"]),
        "num_layers": _count(state, f"{VISION}blocks."),
        "num_heads": _heads(hidden),
    }


def _resnet(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    width, channels = state[f"{VISION}conv1.weight"].shape[:2]
    return {
        "block": "bottleneck" if f"{VISION}layer1.0.conv3.weight" in state else "basic",
        "layers": [max(1, _count(state, f"{VISION}layer{stage}.")) for stage in range(1, 5)],
        "width": width,
        "in_channels": channels,
        "official_resize": True,
    }


def _heads(hidden: int) -> int:
    return 1 if hidden % 64 else hidden // 64


def _count(state: Mapping[str, torch.Tensor], prefix: str) -> int:
    """How many different numbers follow ``prefix``."""
    found = (re.match(re.escape(prefix) + r"(\d+)\.", key) for key in state)
    return len({match[1] for match in found if match})
