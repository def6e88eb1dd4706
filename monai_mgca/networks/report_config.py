# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The settings of a report encoder: any encoder of transformers, and what is refused as one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from logging import getLogger
from pathlib import Path
from typing import Any

import transformers
from torch import nn

__all__ = ["OWN_CODE", "cut_layers", "read_config", "token_limit", "unreadable"]

logger = getLogger(__name__)

# what makes a BERT's sizes
BERT_SIZES = {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"}
OWN_CODE = "code_of_its_own"
WHAT_WORKS = (
    "Take an encoder: BERT, DistilBERT, ELECTRA, RoBERTa, XLM-R, MPNet, DeBERTa, ModernBERT, or a folder of "
    "sentence-transformers with one of them."
)


def read_config(source: str | os.PathLike | Mapping[str, Any]) -> Any:
    """The settings of an encoder.

    Args:
        source: hub name or local folder, or a dictionary: of a ``BertConfig``, or of another one that its "model_type"
            names.

    Raises:
        ValueError: when there are none, or they are of no encoder.

    Example::

        print(read_config({"model_type": "roberta", "hidden_size": 32}).model_type)  # roberta
    """
    if isinstance(source, Mapping):
        return _of_dictionary(dict(source))
    try:
        settings, _ = transformers.PretrainedConfig.get_config_dict(source)
        if _is_bert_of_own_code(settings):
            kind = settings["model_type"]
            logger.info(f"'{source}' asks for code of its own ({kind}), which is not run: it is read as a BERT.")
            return transformers.BertConfig.from_dict({**settings, "model_type": "bert", OWN_CODE: kind})
        config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(unreadable(source)) from error
    _refuse_others(config, source)
    return config


def _of_dictionary(settings: dict[str, Any]) -> Any:
    kind = settings.pop("model_type", "bert")
    if kind not in transformers.CONFIG_MAPPING:
        raise ValueError(f"transformers knows no model_type '{kind}'. {WHAT_WORKS}")
    made = transformers.CONFIG_MAPPING[kind]
    unknown = sorted(set(settings) - set(made().to_dict()) - set(made.attribute_map))
    if unknown:
        raise ValueError(f"{made.__name__} has no setting {unknown}.")
    config = made(**settings)
    _refuse_others(config, "the settings")
    return config


def _refuse_others(config: Any, source: Any) -> None:
    """Refuse what reads no text, or reads it from left to right; :class:`ReportEncoder` tries out all others."""
    kind, name = type(config), config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(
            f"The report encoder must be an encoder alone, but '{source}' is a {name}, which has a decoder, "
            f"too. {WHAT_WORKS}"
        )
    one_way = kind in transformers.MODEL_FOR_CAUSAL_LM_MAPPING and kind not in transformers.MODEL_FOR_MASKED_LM_MAPPING
    if one_way or getattr(config, "is_decoder", False):
        raise ValueError(
            f"The report encoder must be an encoder, but '{source}' is a {name}, a language model that reads from left "
            f"to right: its first token sees no other. {WHAT_WORKS}"
        )
    if kind not in transformers.MODEL_MAPPING:
        raise ValueError(f"The report encoder must be an encoder, but '{source}' is a {name}. {WHAT_WORKS}")


def _is_bert_of_own_code(settings: Mapping[str, Any]) -> bool:
    """Whether a model that transformers does not know has the sizes of a BERT and calls itself one, as CXR-BERT does.

    Whether its weights are those of a BERT shows when they are loaded.
    """
    kind = str(settings.get("model_type", ""))
    return "bert" in kind.lower() and kind not in transformers.CONFIG_MAPPING and settings.keys() >= BERT_SIZES


def unreadable(source: str | os.PathLike) -> str:
    """Why no settings could be read, and what to do.

    Args:
        source: hub name or folder.
    """
    if (Path(source) / "config.json").is_file():
        return (
            f"The config.json of the report encoder '{source}' is not of a model that transformers knows. Where its "
            'weights are a BERT, set "model_type": "bert" in it; code that comes with a model is never run.'
        )
    if Path(source).is_dir():
        return f"The report encoder's folder '{source}' has no config.json: give the folder that holds it."
    return (
        f"The report encoder '{source}' is neither a folder with a config.json nor a hub name that can be reached from "
        "here. Without network, download it where there is one and pass the local folder that holds config.json, the "
        "weights and the tokenizer files."
    )


def cut_layers(config: Any, num_layers: int) -> None:
    """Leave the first layers in the settings.

    Args:
        config: of the encoder; it is changed.
        num_layers: how many.

    Raises:
        ValueError: when it has not so many.
    """
    if not 1 <= num_layers <= config.num_hidden_layers:
        raise ValueError(f"num_layers must be 1 to {config.num_hidden_layers}, got {num_layers}.")
    config.num_hidden_layers = num_layers
    if isinstance(getattr(config, "layer_types", None), list):  # of ModernBERT: which of them see all tokens
        config.layer_types = config.layer_types[:num_layers]


def token_limit(model: nn.Module) -> int | None:
    """How many tokens an encoder can read; None where nothing limits it.

    RoBERTa and alike count positions from behind that of padding on, so that of 514 there are 512 for tokens.

    Args:
        model: of transformers.
    """
    config: Any = model.config
    limit = getattr(config, "max_position_embeddings", None)
    for name, part in model.named_modules():
        if isinstance(part, nn.Embedding) and name.endswith("position_embeddings") and part.padding_idx is not None:
            limit = part.num_embeddings - part.padding_idx - 1
    return limit if isinstance(limit, int) and limit > 0 else None
