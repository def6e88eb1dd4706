# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Builds a report encoder of transformers, with random weights or those of its files, of which none may be missing."""

from __future__ import annotations

import inspect
import os
import re
from logging import getLogger
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from monai_mgca.networks.report_config import OWN_CODE, unreadable
from monai_mgca.utils.console import name_some
from monai_mgca.utils.errors import CheckpointError

__all__ = ["load_model", "random_model"]

logger = getLogger(__name__)

# where a BERT's layers are
BERT_PARTS = ("embeddings.", "encoder.")
_LAYER = re.compile(r"\.\d+\.")


def _kind_of(config: Any) -> tuple[Any, dict[str, Any]]:
    """The class of a model, and how it is made: with fused attention where it can, without what pools its states."""
    kind: Any = transformers.MODEL_MAPPING[type(config)]
    kind = kind[0] if isinstance(kind, (list, tuple)) else kind
    settings = {"attn_implementation": "sdpa" if kind._supports_sdpa else "eager"}
    pooled = "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    return kind, {**settings, "add_pooling_layer": False} if pooled else settings


def random_model(config: Any) -> Any:
    """A model with random weights.

    Args:
        config: its settings.

    Example::

        print(type(random_model(transformers.BertConfig(vocab_size=30, num_hidden_layers=1))).__name__)  # BertModel
    """
    kind, settings = _kind_of(config)
    config._attn_implementation = settings.pop("attn_implementation")
    return _less_pooler(kind(config, **settings))


def load_model(source: str | os.PathLike, config: Any) -> Any:
    """A model with the weights of its folder, or of the hub's.

    Args:
        source: hub name or local folder.
        config: the settings, perhaps of fewer layers.

    Raises:
        ValueError: when there are no weights.
        CheckpointError: when some are missing, damaged, or not those of such a model.
    """
    kind, settings = _kind_of(config)
    try:
        model, info = kind.from_pretrained(
            source, config=config, dtype=torch.float32, output_loading_info=True, **settings
        )
    except OSError as error:
        if Path(source).is_dir():
            raise ValueError(
                f"The report encoder's folder '{source}' holds no weights (model.safetensors or pytorch_model.bin): "
                "put them there, or start from random weights: pretrained=False, --report_encoder_pretrained false."
            ) from error
        raise ValueError(unreadable(source)) from error
    except Exception as error:  # a damaged file fails in any way
        raise CheckpointError(
            f"The weights of the report encoder '{source}' are damaged or do not fit its config.json: {error}"
        ) from error
    foreign = _foreign(model, info["unexpected_keys"])
    if hasattr(config, OWN_CODE) and (others := [key for key in foreign if key.startswith(BERT_PARTS)]):
        raise CheckpointError(f"'{source}' is not quite a BERT, for it has {name_some(others, 4)}.")
    if info["missing_keys"]:
        raise CheckpointError(f"'{source}' lacks weights of the report encoder: {sorted(info['missing_keys'])}.")
    if foreign:
        logger.info(f"Not of the report encoder, and left in '{source}': {name_some(foreign, 8)}.")
    return _less_pooler(model)


def _less_pooler(model: nn.Module) -> nn.Module:
    """Of the few that cannot be made without, what pools the states is not trained: it would get no gradient."""
    if isinstance(pooler := getattr(model, "pooler", None), nn.Module):
        pooler.requires_grad_(False)
    return model


def _foreign(model: Any, keys: Any) -> list[str]:
    """Names of weights that the model has in none of its layers, also not in those that were cut off."""
    known = {_LAYER.sub(".0.", key) for key in model.state_dict()} | {"embeddings.position_ids"}
    inside = {key.removeprefix(f"{model.base_model_prefix}.") for key in keys}
    return sorted(key for key in inside if _LAYER.sub(".0.", key) not in known)
