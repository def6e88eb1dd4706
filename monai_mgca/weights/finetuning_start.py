# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Where a finetuning starts: finds the pretrained encoder, loads and freezes it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from monai_mgca.networks.adaptation.locking import hold_in_evaluation
from monai_mgca.weights.encoder_weights import find_backbone, load_encoder
from monai_mgca.weights.model_settings import read_model_settings
from monai_mgca.weights.other_encoders import find_other_encoder

__all__ = ["find_pretrained", "freeze_encoder", "start_encoder"]

logger = logging.getLogger(__name__)


def find_pretrained(path: str | os.PathLike, use_sample: bool = False) -> str | None:
    """The checkpoint of an earlier pretraining, where there is one that suits.

    Args:
        path: where the pretraining writes ``model.pt``; ``model.json`` stands beside it.
        use_sample: whether the finetuning is on the built-in sample. Weights learned from the sample are no start for
            anyone's own data.

    Example::

        print(find_pretrained("bundles/mgca/models/model.pt"))
    """
    path = Path(path)
    if not path.is_file():
        return None
    if read_model_settings(path, path.with_suffix(".json").name).get("use_sample") and not use_sample:
        logger.warning(f"{path} was learned from the built-in sample: not used, unless given as --pretrained_path.")
        return None
    return str(path)


def freeze_encoder(network: nn.Module) -> int:
    """Keep a network's encoder as it is: no gradient, and batch norm and dropout as in evaluation.

    The engines put the whole network into training mode before every step; the encoder's layers leave it again before
    they are called.

    Args:
        network: what :func:`load_encoder` takes.

    Returns:
        The number of frozen tensors.

    Example::

        network = create_segmenter("resnet_compact", num_classes=1, image_size=64)
        print(freeze_encoder(network))
    """
    backbone = find_backbone(network)
    for parameter in backbone.parameters():
        parameter.requires_grad_(False)
    # another library's layers drop or normalize by whatever name, also within themselves
    every = find_other_encoder(network) is not None
    kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    hold_in_evaluation(module for module in backbone.modules() if every or isinstance(module, kinds))
    return len(backbone.state_dict())


def start_encoder(
    network: nn.Module, checkpoint: str | os.PathLike | Mapping[str, Any] | None, freeze: bool = True
) -> None:
    """Begin a finetuning: the encoder's weights from the pretraining, frozen if wanted; the log says which.

    Args:
        network: what :func:`load_encoder` takes.
        checkpoint: of the pretraining; None leaves random weights.
        freeze: see :func:`freeze_encoder`.

    Raises:
        CheckpointError: as :func:`load_encoder`.

    Example::

        start_encoder(create_segmenter("resnet_compact", num_classes=1, image_size=64), checkpoint=None, freeze=False)
    """
    state = "frozen" if freeze else "trained too"
    if checkpoint is None and freeze:
        logger.warning(
            "The encoder starts from random weights and stays so: it is frozen, and no pretrained_path is given or "
            "found. The result will be poor. Pretrain first (train.json with your data), give --pretrained_path FILE, "
            "the model.pt of a pretraining, or train the encoder too by --freeze_encoder false."
        )
    elif checkpoint is None:
        logger.info(f"The encoder starts from random weights, {state}: no pretrained_path is given or found.")
    else:
        moved = load_encoder(network, checkpoint)
        source = "a state dict" if isinstance(checkpoint, Mapping) else checkpoint
        logger.info(f"The encoder starts from {source}: {moved} tensors moved, {state}.")
    if freeze:
        freeze_encoder(network)
