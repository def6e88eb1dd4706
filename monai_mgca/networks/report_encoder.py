# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The report encoder: a BERT of transformers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from logging import getLogger
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from monai_mgca.networks.attention import cls_attention
from monai_mgca.utils.console import name_some
from monai_mgca.utils.errors import CheckpointError

__all__ = ["ReportEncoder"]

logger = getLogger(__name__)

# what makes a BERT's sizes, and where its layers are
BERT_SIZES = {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"}
BERT_PARTS = ("embeddings.", "encoder.")
OWN_CODE = "code_of_its_own"
_LAYER = re.compile(r"\.\d+\.")


class ReportEncoder(nn.Module):
    """A transformers BERT that gives the states of all word pieces and [CLS]'s attention to them in the last layer.

    All layers have fused attention; of the last layer the [CLS] row of the attention alone is computed besides.

    Args:
        source: hub name ("emilyalsentzer/Bio_ClinicalBERT"), local folder, or the settings of a ``BertConfig`` as a
            dictionary.
        pretrained: load the weights of ``source``; else it gives the sizes alone and the weights are random. A
            dictionary has no weights, so they are always random.
        num_layers: keep the first layers only; all if None.
        freeze: no gradients, and no dropout also while training.
        checkpointing: recompute the layers in the backward pass, which saves memory for a third more time.
        official_embeddings: as in the official code, which gives every token position 0 and no token type; its
            published weights need it.
        official_attention: as in the official code, pair every token with the attention to the token after it.

    Raises:
        ValueError: when ``source`` cannot be read, is not a BERT, or ``num_layers`` is not between 1 and its layers.
        CheckpointError: when weights are missing in ``source``.

    Example::

        sizes = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        encoder = ReportEncoder({**sizes, "intermediate_size": 64})
        ids = torch.tensor([[2, 7, 8, 3, 0]])
        states, attention = encoder(ids, (ids > 0).long())
    """

    def __init__(
        self,
        source: str | Path | Mapping[str, Any],
        pretrained: bool = True,
        num_layers: int | None = None,
        freeze: bool = False,
        checkpointing: bool = False,
        official_embeddings: bool = False,
        official_attention: bool = False,
    ) -> None:
        super().__init__()
        config = _read_config(source)
        if num_layers is not None:
            if not 1 <= num_layers <= config.num_hidden_layers:
                raise ValueError(f"num_layers must be 1 to {config.num_hidden_layers}, got {num_layers}.")
            config.num_hidden_layers = num_layers
        if pretrained and not isinstance(source, Mapping):
            self.model = _load_pretrained(source, config)
        else:
            config._attn_implementation = "sdpa"
            self.model = transformers.BertModel(config, add_pooling_layer=False)
        if checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if official_embeddings:
            # a token type of zero is none; the position is given in forward
            nn.init.zeros_(self.model.embeddings.token_type_embeddings.weight)
            self.model.embeddings.token_type_embeddings.requires_grad_(False)
        self.freeze = freeze
        if freeze:
            self.requires_grad_(False)
        self.official_embeddings = official_embeddings
        self.official_attention = official_attention
        self.out_channels: int = config.hidden_size

    def train(self, mode: bool = True) -> ReportEncoder:
        """A frozen encoder stays in evaluation mode."""
        super().train(mode and not self.freeze)
        return self

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            input_ids: (B, L) int64, [CLS] first, padding last.
            attention_mask: (B, L), 1 on tokens, 0 on padding.

        Returns:
            states (B, L, C) of the last layer, attention (B, L) of [CLS] to each piece.
        """
        limit = self.model.config.max_position_embeddings
        if input_ids.shape[1] > limit:
            raise ValueError(
                f"reports of {input_ids.shape[1]} tokens, but the encoder knows {limit}: lower max_length."
            )
        # attention over nothing is NaN: [CLS] is always there
        visible = attention_mask.clone()
        visible[:, 0] = 1
        # of a mask (B, L) transformers asks whether any of it is padding, and waits for the device to know
        mask = visible.bool()[:, None, None, :].expand(-1, 1, input_ids.shape[1], -1)
        positions = torch.zeros_like(input_ids) if self.official_embeddings else None
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze):
            try:
                output = self.model(
                    input_ids=input_ids, attention_mask=mask, position_ids=positions, output_hidden_states=True
                )
            except IndexError as error:  # of a CPU; on a GPU one cannot go on after it
                raise ValueError(_unknown_piece(input_ids, self.model.config.vocab_size)) from error
        with torch.no_grad():
            last, before = self.model.encoder.layer[-1].attention.self, output.hidden_states[-2]
            query, key = last.query(before[:, :1]), last.key(before)
            attention = cls_attention(query, key, last.num_attention_heads, visible)
            if self.official_attention:
                attention = torch.cat((attention[:, 1:], torch.zeros_like(attention[:, :1])), dim=1)
        return output.last_hidden_state, attention


def _read_config(source: str | Path | Mapping[str, Any]) -> Any:
    if isinstance(source, Mapping):
        unknown = sorted(set(source) - set(transformers.BertConfig().to_dict()))
        if unknown:
            raise ValueError(f"BertConfig has no setting {unknown}.")
        return transformers.BertConfig(**source)
    try:
        settings, _ = transformers.PretrainedConfig.get_config_dict(source)
        if _is_bert_of_own_code(settings):
            kind = settings["model_type"]
            logger.info(f"'{source}' asks for code of its own ({kind}), which is not run: it is read as a BERT.")
            return transformers.BertConfig.from_dict({**settings, "model_type": "bert", OWN_CODE: kind})
        config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(_unreadable(source)) from error
    if config.model_type != "bert":
        raise ValueError(f"The report encoder must be a BERT, but '{source}' is a {config.model_type}.")
    return config


def _is_bert_of_own_code(settings: Mapping[str, Any]) -> bool:
    """Whether a model that transformers does not know has the sizes of a BERT and calls itself one, as CXR-BERT does.

    Whether its weights are those of a BERT shows when they are loaded.
    """
    kind = str(settings.get("model_type", ""))
    return "bert" in kind.lower() and kind not in transformers.CONFIG_MAPPING and settings.keys() >= BERT_SIZES


def _load_pretrained(source: str | Path, config: Any) -> transformers.BertModel:
    try:
        loaded: Any = transformers.BertModel.from_pretrained(
            source,
            config=config,
            add_pooling_layer=False,
            attn_implementation="sdpa",
            dtype=torch.float32,
            output_loading_info=True,
        )
    except OSError as error:
        if Path(source).is_dir():
            raise ValueError(
                f"The report encoder's folder '{source}' holds no weights (model.safetensors or pytorch_model.bin): "
                "put them there, or start from random weights: pretrained=False, --report_encoder_pretrained false."
            ) from error
        raise ValueError(_unreadable(source)) from error
    except Exception as error:  # a damaged file fails in any way
        raise CheckpointError(
            f"The weights of the report encoder '{source}' are damaged or do not fit its config.json: {error}"
        ) from error
    model, info = loaded
    known = {_LAYER.sub(".0.", key) for key in model.state_dict()} | {"embeddings.position_ids"}
    inside = (key.removeprefix("bert.") for key in info["unexpected_keys"])
    foreign = [key for key in inside if key.startswith(BERT_PARTS) and _LAYER.sub(".0.", key) not in known]
    if foreign and hasattr(config, OWN_CODE):
        raise CheckpointError(f"'{source}' is not quite a BERT, for it has {name_some(sorted(foreign), 4)}.")
    if info["missing_keys"]:
        raise CheckpointError(f"'{source}' lacks weights of the report encoder: {sorted(info['missing_keys'])}.")
    network: transformers.BertModel = model
    return network


def _unknown_piece(input_ids: torch.Tensor, size: int) -> str:
    return (
        f"The tokenizer has at least {int(input_ids.max()) + 1} pieces, the encoder {size}: they are not of one model. "
        "Give both the same folder, or build the encoder with the tokenizer's vocab_size."
    )


def _unreadable(source: str | Path) -> str:
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
