# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The report encoder: a BERT, or any other encoder of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from monai_mgca.networks.attention import cls_attention
from monai_mgca.networks.last_attention import LastAttention
from monai_mgca.networks.report_config import WHAT_WORKS, cut_layers, read_config, token_limit
from monai_mgca.networks.report_weights import load_model, random_model
from monai_mgca.text.sentence_folder import encoder_folder, own_pooling
from monai_mgca.text.tokenizer_files import begins_with_token, load_tokenizer

__all__ = ["ReportEncoder"]

# tokens of the report on which a new encoder is tried out
TRIED = 6
WHOLE_PRECISION = ("deberta",)


class ReportEncoder(nn.Module):
    """An encoder of transformers that gives the states of all pieces and [CLS]'s attention to them in the last layer.

    All layers have fused attention where the library has it; of the last layer the row of the first token alone, [CLS]
    or <s>, is computed besides. Where the tokenizer beside the encoder puts no such token before a text, it is the
    attention of the mean query of all tokens.

    Args:
        source: hub name ("emilyalsentzer/Bio_ClinicalBERT"), local folder, also one of sentence-transformers, or
            settings as a dictionary: of a ``BertConfig``, or of another that "model_type" names ("xlm-roberta").
        pretrained: load the weights of ``source``; else it gives the sizes alone and the weights are random. A
            dictionary has no weights, so they are always random.
        num_layers: keep the first layers only; all if None.
        freeze: no gradients, and no dropout also while training.
        checkpointing: recompute the layers in the backward pass, which saves memory for a third more time.
        official_embeddings: as in the official code, which gives every token position 0 and no token type; its
            published weights need it. Of a BERT alone.
        official_attention: as in the official code, pair every token with the attention to the token after it.

    Raises:
        ValueError: when ``source`` cannot be read, is no encoder (GPT-2 is none, nor is T5 with its decoder), or
            ``num_layers`` is not between 1 and its layers.
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
        self._source = source
        place = source if isinstance(source, Mapping) else encoder_folder(source)
        config = read_config(place)
        if num_layers is not None:
            cut_layers(config, num_layers)
        if isinstance(place, Mapping) or not pretrained:
            self.model: Any = random_model(config)
        else:
            self.model = load_model(place, config)
        self.is_bert = config.model_type == "bert"
        if official_embeddings and not self.is_bert:
            raise ValueError(f"official_embeddings are those of a BERT, and '{source}' is a {config.model_type}.")
        self.max_tokens = token_limit(self.model)
        self.first_token = self.is_bert or _has_first_token(place)
        self.out_channels: int = config.hidden_size if self.is_bert else self._try_out()
        if checkpointing:
            if not self.model.supports_gradient_checkpointing:
                raise ValueError(f"A {config.model_type} cannot recompute its layers: leave checkpointing at False.")
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

    def own_pooling(self) -> str:
        """How the encoder pools by itself: "mean" or "cls" as a folder of sentence-transformers says, "cls" of others.

        Raises:
            ValueError: when it pools in another way.
        """
        return "cls" if isinstance(self._source, Mapping) else own_pooling(self._source)

    def train(self, mode: bool = True) -> ReportEncoder:
        """A frozen encoder stays in evaluation mode."""
        super().train(mode and not self.freeze)
        return self

    def check_length(self, length: int) -> None:
        """Refuse reports that may be longer than what the encoder has positions for.

        Args:
            length: tokens of a report with its padding.

        Raises:
            ValueError: when they are too many.
        """
        if self.max_tokens is not None and length > self.max_tokens:
            raise ValueError(f"reports of {length} tokens, but the encoder knows {self.max_tokens}: lower max_length.")

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            input_ids: (B, L) int64, [CLS] or alike first, padding last.
            attention_mask: (B, L), 1 on tokens, 0 on padding.

        Returns:
            states (B, L, C) of the last layer, attention (B, L) of [CLS] to each piece.
        """
        self.check_length(input_ids.shape[1])
        # attention over nothing is NaN: [CLS] is always there
        visible = attention_mask.clone()
        visible[:, 0] = 1
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze):
            try:
                states, attention = (self._bert if self.is_bert else self._other)(input_ids, visible)
            except IndexError as error:  # of a CPU; on a GPU one cannot go on after it
                raise ValueError(_unknown_piece(input_ids, self.model.config.vocab_size)) from error
        if self.official_attention:
            attention = torch.cat((attention[:, 1:], torch.zeros_like(attention[:, :1])), dim=1)
        return states, attention

    def _bert(self, input_ids: torch.Tensor, visible: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # of a mask (B, L) transformers asks whether any of it is padding, and waits for the device to know
        mask = visible.bool()[:, None, None, :].expand(-1, 1, input_ids.shape[1], -1)
        positions = torch.zeros_like(input_ids) if self.official_embeddings else None
        output = self.model(input_ids=input_ids, attention_mask=mask, position_ids=positions, output_hidden_states=True)
        with torch.no_grad():
            last, before = self.model.encoder.layer[-1].attention.self, output.hidden_states[-2]
            query, key = last.query(before[:, :1]), last.key(before)
            attention = cls_attention(query, key, last.num_attention_heads, visible)
        return output.last_hidden_state, attention

    @torch.compiler.disable  # for the calls are looked at
    def _other(self, input_ids: torch.Tensor, visible: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # masks of these are minus the largest number of float32, which half precision does not have
        whole = self.model.config.model_type in WHOLE_PRECISION
        precision = torch.autocast(input_ids.device.type, enabled=False) if whole else nullcontext()
        with precision, LastAttention() as seen:
            states = self.model(input_ids=input_ids, attention_mask=visible).last_hidden_state
        return states, seen.first_row() if self.first_token else seen.mean_row(visible)

    def _try_out(self) -> int:
        """The size of the states, after a look whether a report of some tokens can be read.

        Raises:
            ValueError: when it gives other states than one of each token, or the first token sees no other.
        """
        ids = torch.arange(1, TRIED + 1)[None] % getattr(self.model.config, "vocab_size", TRIED)
        refused, mode = f"A {self.model.config.model_type} cannot be the report encoder: ", self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                states, attention = self._other(ids, torch.ones_like(ids))
        except Exception as error:  # of a network that reads something else
            raise ValueError(f"{refused}{error} {WHAT_WORKS}") from error
        if states.shape[:2] != ids.shape or attention.shape != ids.shape:
            raise ValueError(f"{refused}it does not give a state of each token. {WHAT_WORKS}")
        if self.first_token and attention[0, 0] > 1 - 1e-6:
            raise ValueError(f"{refused}its first token sees no other. {WHAT_WORKS}")
        self.model.train(mode)
        return states.shape[2]


def _has_first_token(source: Any) -> bool:
    """Whether [CLS] or alike comes before a report; without a tokenizer it is taken to be so."""
    try:
        return isinstance(source, Mapping) or begins_with_token(load_tokenizer(source))
    except ValueError:
        return True


def _unknown_piece(input_ids: torch.Tensor, size: int) -> str:
    return (
        f"The tokenizer has at least {int(input_ids.max()) + 1} pieces, the encoder {size}: they are not of one model. "
        "Give both the same folder, or build the encoder with the tokenizer's vocab_size."
    )
