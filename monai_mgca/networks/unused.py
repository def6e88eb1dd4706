# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Freezes what a training's loss does not reach, and leaves it out of the training's steps."""

from __future__ import annotations

from collections.abc import Iterable
from logging import getLogger
from typing import Any

from torch import nn

from monai_mgca.networks.adapters.adapted_encoder import AdaptedImageEncoder
from monai_mgca.networks.image_encoder import ResNetImageEncoder
from monai_mgca.networks.mgca import MGCA
from monai_mgca.utils.enums import MGCAKeys as Keys

__all__ = ["freeze_unused"]

logger = getLogger(__name__)

_SCORES = {Keys.IMAGE_SCORES, Keys.REPORT_SCORES}
_CONTEXTS = {Keys.IMAGE_CONTEXT, Keys.WORD_CONTEXT}
# the outputs through which a loss reaches each part of MGCA
_REACHED = {
    "image_head": {Keys.IMAGE_EMBEDDING, Keys.IMAGE_SCORES},
    "report_head": {Keys.REPORT_EMBEDDING, Keys.REPORT_SCORES},
    "image_token_head": {Keys.IMAGE_TOKENS} | _CONTEXTS,
    "word_head": {Keys.WORD_TOKENS} | _CONTEXTS,
    "image_matcher": {Keys.IMAGE_CONTEXT},
    "word_matcher": {Keys.WORD_CONTEXT},
    "prototypes": _SCORES,
}
# the outputs that MGCA gives together
_PARTS = {
    "embeddings": {Keys.IMAGE_EMBEDDING, Keys.REPORT_EMBEDDING},
    "tokens": {Keys.IMAGE_TOKENS, Keys.WORD_TOKENS} | _CONTEXTS,
    "scores": _SCORES,
}


def freeze_unused(network: MGCA, loss: nn.Module) -> list[str]:
    """Freeze the parts of MGCA that a loss does not reach: the prototypes where their term has the weight 0, and alike.

    They would get no gradient and stay as they are, and in training the network no longer computes what they give; a
    head that is not run keeps the statistics of its batch norms. DDP waits for the gradient of whatever is trainable
    when it wraps the network, so call this before.

    Args:
        network: not wrapped.
        loss: :class:`monai_mgca.losses.MGCALoss`; for another one, which does not name the outputs that it reads,
            nothing is frozen.

    Returns:
        The names of the parts.

    Example::

        from monai_mgca.losses import MGCALoss
        from monai_mgca.networks import MGCA, ReportEncoder, create_image_encoder, freeze_unused
        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
        network = MGCA(create_image_encoder("resnet_compact"), ReportEncoder({"vocab_size": 50, **sizes}))
        print(freeze_unused(network, MGCALoss(weights=(1, 1, 0))))
    """
    outputs_read: Any = getattr(loss, "outputs_read", None)
    if outputs_read is None:
        return []
    read = set(outputs_read())
    network.parts = tuple(part for part, outputs in _PARTS.items() if not read.isdisjoint(outputs))
    parts = {name: getattr(network, name, None) for name, outputs in _REACHED.items() if read.isdisjoint(outputs)}
    encoder = network.image_encoder
    # its tokens come from the stage before
    if isinstance(encoder, ResNetImageEncoder) and read.isdisjoint(_REACHED["image_head"]):
        parts["image_encoder.backbone.layer4"] = encoder.backbone.layer4
    behind: list[str] = []
    if isinstance(encoder, AdaptedImageEncoder) and read.isdisjoint(_REACHED["image_head"]):
        behind = [f"image_encoder.{name}" for name in encoder.freeze_behind_tokens()]
    frozen = behind + [name for name, part in parts.items() if part is not None and _freeze(part.parameters())]
    if frozen:
        logger.info(f"Not trained, because no term of the loss depends on them: {', '.join(frozen)}.")
    return frozen


def _freeze(parameters: Iterable[nn.Parameter]) -> bool:
    """Whether there was anything to freeze."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    return bool(trained)
