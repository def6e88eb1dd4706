# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The network of MGCA: two encoders, their projections, and the prototypes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from monai.utils import look_up_option
from torch import nn

from monai_mgca.networks.image_embedder import ImageEmbedder
from monai_mgca.networks.image_encoder import ImageEncoder, ImageFeatures
from monai_mgca.networks.matching import AttentionMatcher, attention_to_weights, soft_match
from monai_mgca.networks.micro_batch import check_micro_batches, encode_in_micro_batches
from monai_mgca.networks.projection import ProjectionHead
from monai_mgca.networks.windows import encode_windows
from monai_mgca.networks.word_pooling import aggregate_words, project_words
from monai_mgca.utils.enums import MGCAKeys as Keys

if TYPE_CHECKING:
    from monai_mgca.networks.report_encoder import ReportEncoder

__all__ = ["MGCA", "Prototypes"]


class Prototypes(nn.Module):
    """Trainable unit vectors; gives their cosines with the embeddings.

    Args:
        embed_dim: D.
        num_prototypes: K.
    """

    def __init__(self, embed_dim: int, num_prototypes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.randn(num_prototypes, embed_dim), dim=1))

    def normalize_(self) -> None:
        """Scale the prototypes back to unit length, from which an optimizer's step takes them."""
        # through .data: a second forward before the backward changes nothing, and autograd must not think it did
        self.weight.data.copy_(F.normalize(self.weight.data, dim=1))

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """(B, D) unit vectors -> (B, K) cosines."""
        with torch.autocast(embedding.device.type, enabled=False):
            return F.linear(embedding, self.weight if self.training else F.normalize(self.weight, dim=1))


class MGCA(nn.Module):
    """Multi-Granularity Cross-modal Alignment: both towers, their projections, the matchers and the prototypes.

    Wang et al. "Multi-Granularity Cross-modal Alignment for Generalized Medical Visual Representation Learning",
    NeurIPS 2022, https://arxiv.org/abs/2210.06044.

    Args:
        image_encoder: :class:`ViTImageEncoder`, :class:`ResNetImageEncoder` or alike.
        report_encoder: :class:`ReportEncoder` or alike.
        embed_dim: D, size of all embeddings.
        hidden_dim: hidden size of the projections.
        num_prototypes: K.
        matcher: how a token finds its context in the other modality: "similarity" has no parameters, "learned" is
            cross-attention with learned maps.
        matcher_heads: heads of the learned matcher.
        temperature: of the similarity matcher; the paper's tau2.
        pool_report: "cls" takes the report's state at [CLS], "mean" the mean of its pieces, which sentence encoders
            were trained for, "own" what the encoder's folder of sentence-transformers says. Where the tokenizer puts
            no [CLS] or alike before a report, it is the mean.
        mask_padding: keep padding out of the statistics of the word projection and at zero. The official code does
            not (False).
        normalize_image_context: give the image tokens' contexts unit length, as those of the words. The official code
            does not with a ViT (False).
        micro_batch_size: samples that an encoder takes at a time, whose graph alone is held: see
            :func:`encode_in_micro_batches`. Projections and losses see the whole batch. 0: all at once.
        return_contexts: give the tokens' contexts too. Those of the similarity matcher the loss can make itself
            (:class:`monai_mgca.losses.MatchedTokenLoss`), faster and in less memory: False leaves them out.
        window_size: see :class:`ImageEmbedder`.

    Attributes:
        parts: what :meth:`forward` gives in training: "embeddings", "tokens" and "scores", of which
            :func:`freeze_unused` keeps those that the loss reads. In evaluation it gives all.

    Raises:
        ValueError: where contexts are to be left out that the loss cannot make: those of the learned matcher, or image
            contexts that are not normalized; for an unknown ``matcher`` or ``pool_report``, with the nearest known one;
            for micro-batches that are no number from 0 on, or with a batch norm in an encoder; in training for a batch
            of one pair, which has no batch statistics and no negatives.

    Example::

        from monai_mgca.networks import MGCA, ReportEncoder, create_image_encoder
        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
        network = MGCA(create_image_encoder("resnet_compact"), ReportEncoder({"vocab_size": 50, **sizes}))
        ids = torch.tensor([[2, 7, 8, 3], [2, 9, 3, 0]])
        words = torch.tensor([[-1, 0, 1, -1], [-1, 0, -1, -1]])
        output = network(torch.rand(2, 1, 64, 64), ids, (ids > 0).long(), words)
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        report_encoder: ReportEncoder,
        embed_dim: int = 128,
        hidden_dim: int = 2048,
        num_prototypes: int = 500,
        matcher: str = "similarity",
        matcher_heads: int = 1,
        temperature: float = 0.1,
        pool_report: str = "cls",
        mask_padding: bool = True,
        normalize_image_context: bool = True,
        micro_batch_size: int = 0,
        return_contexts: bool = True,
        window_size: Sequence[int] | int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(micro_batch_size, int) or micro_batch_size < 0:
            raise ValueError(f"micro_batch_size must be a whole number from 0 (off) on, got {micro_batch_size!r}.")
        if micro_batch_size:
            check_micro_batches(image_encoder, report_encoder)
        self.image_encoder, self.report_encoder = image_encoder, report_encoder
        self.image_head = ProjectionHead(image_encoder.out_channels, hidden_dim, embed_dim)
        self.image_token_head = ProjectionHead(image_encoder.token_channels, hidden_dim, embed_dim)
        self.report_head = ProjectionHead(report_encoder.out_channels, hidden_dim, embed_dim)
        self.word_head = ProjectionHead(report_encoder.out_channels, hidden_dim, embed_dim)
        self.prototypes = Prototypes(embed_dim, num_prototypes)
        if look_up_option(matcher, ("similarity", "learned")) == "learned":
            self.word_matcher = AttentionMatcher(embed_dim, matcher_heads)
            self.image_matcher = AttentionMatcher(embed_dim, matcher_heads)
        self.matcher = matcher
        self.temperature = temperature
        pool_report = look_up_option(pool_report, ("cls", "mean", "own"))
        if pool_report == "own":
            pool_report = report_encoder.own_pooling()
        # without a first token of its own a report is the mean of all
        self.pool_report = pool_report if getattr(report_encoder, "first_token", True) else "mean"
        self.mask_padding = mask_padding
        self.normalize_image_context = normalize_image_context
        if not return_contexts and (matcher == "learned" or not normalize_image_context):
            raise ValueError("Only normalized contexts of the matcher 'similarity' can be left to the loss.")
        self.return_contexts = return_contexts
        self.micro_batch_size, self.window_size = micro_batch_size, window_size
        self.parts: tuple[str, ...] = ("embeddings", "tokens", "scores")

    def _gives(self, *parts: str) -> bool:
        return not self.training or any(part in self.parts for part in parts)

    def image_embedder(self) -> ImageEmbedder:
        """The image encoder and its projection as one network that shares their weights."""
        return ImageEmbedder(self.image_encoder, self.image_head, self.window_size)

    def encode_image(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        Args:
            image: (B, in_channels, H, W[, D]).

        Returns:
            "image_embedding" (B, D), "image_tokens" (B, P, D) and "image_weights" (B, P); see ``parts``.
        """
        if self.window_size is None:
            features = ImageFeatures(*encode_in_micro_batches(self.image_encoder, self.micro_batch_size, image))
        else:
            features = encode_windows(self.image_encoder, image, self.window_size, self.micro_batch_size)
        output: dict[str, torch.Tensor] = {}
        if self._gives("embeddings", "scores"):
            output[Keys.IMAGE_EMBEDDING] = self.image_head(features.pooled)
        if self._gives("tokens"):
            count = features.tokens.shape[1]
            if features.attention is None:
                weights = torch.full((len(image), count), 1 / count, device=image.device)
            else:
                weights = attention_to_weights(features.attention)
            output |= {Keys.IMAGE_TOKENS: self.image_token_head(features.tokens), Keys.IMAGE_WEIGHTS: weights}
        return output

    def encode_report(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        word_ids: torch.Tensor,
        report_states: torch.Tensor | None = None,
        report_attention: torch.Tensor | None = None,
        *,
        extent: tuple[int, int] | None = None,
    ) -> dict[str, torch.Tensor]:
        """
        Args:
            input_ids: (B, L) int64.
            attention_mask: (B, L), 1 on tokens, 0 on padding.
            word_ids: (B, L) int64, the word of each token, -1 where there is none.
            report_states: (B, L, C) what a frozen report encoder gave before; it is then not called.
            report_attention: (B, L), the same.
            extent: as :func:`report_extent` finds it where the batch is still on the CPU; padding then costs nothing
                on a device either, which is not asked for it. Where padding counts (``mask_padding``) it is not used.

        Returns:
            "report_embedding" (B, D), "word_tokens" (B, W, D), "word_weights" (B, W) and "word_mask" (B, W) bool,
            where W = L - 1, or with ``extent`` its first number if that is less; see ``parts``.
        """
        # [CLS] is no word, so there are at most L - 1
        slots, count = input_ids.shape[1] - 1, None
        if extent is not None and self.mask_padding:
            length, count = extent
            if hasattr(self.report_encoder, "check_length"):  # a longer report can come, though none of these is
                self.report_encoder.check_length(input_ids.shape[1])
            slots = min(slots, length)
            input_ids, attention_mask, word_ids = (x[:, :length] for x in (input_ids, attention_mask, word_ids))
            if report_states is not None and report_attention is not None:
                report_states, report_attention = report_states[:, :length], report_attention[:, :length]
        if report_states is None or report_attention is None:
            report_states, report_attention = encode_in_micro_batches(
                self.report_encoder, self.micro_batch_size, input_ids, attention_mask
            )
        states = report_states.to(torch.promote_types(report_states.dtype, torch.float32))
        output: dict[str, torch.Tensor] = {}
        if self._gives("embeddings", "scores"):
            output[Keys.REPORT_EMBEDDING] = self.report_head(self._pool(states, attention_mask))
        if self._gives("tokens"):
            words, attention, mask = aggregate_words(states, report_attention, word_ids, slots)
            tokens = project_words(self.word_head, words, mask, count) if self.mask_padding else self.word_head(words)
            output |= {Keys.WORD_TOKENS: tokens, Keys.WORD_WEIGHTS: attention_to_weights(attention)}
            output[Keys.WORD_MASK] = mask
        return output

    def _pool(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        if self.pool_report == "cls":
            return states[:, 0]
        share = attention_mask.to(states.dtype)
        return torch.einsum("bl,blc->bc", share / share.sum(1, keepdim=True).clamp_min(1), states)

    def _match(self, image_tokens: torch.Tensor, word_tokens: torch.Tensor, word_mask: torch.Tensor) -> dict:
        normalize = self.normalize_image_context
        if self.matcher == "learned":
            word_context = self.word_matcher(word_tokens, image_tokens)
            image_context = self.image_matcher(image_tokens, word_tokens, word_mask, normalize)
        else:
            word_context = soft_match(word_tokens, image_tokens, self.temperature)
            image_context = soft_match(image_tokens, word_tokens, self.temperature, word_mask, normalize)
        return {Keys.WORD_CONTEXT: word_context, Keys.IMAGE_CONTEXT: image_context}

    def forward(
        self,
        image: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        word_ids: torch.Tensor,
        report_states: torch.Tensor | None = None,
        report_attention: torch.Tensor | None = None,
        *,
        extent: tuple[int, int] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Arguments as those of :meth:`encode_image` and :meth:`encode_report`.

        Returns:
            All that :class:`monai_mgca.losses.MGCALoss` needs, keyed by :class:`monai_mgca.utils.MGCAKeys`.
        """
        if self.training:
            if len(image) < 2:
                raise ValueError("MGCA trains on batches of at least 2 pairs: a single one has nothing to differ from.")
            self.prototypes.normalize_()
        output = self.encode_image(image)
        states = report_states, report_attention
        output |= self.encode_report(input_ids, attention_mask, word_ids, *states, extent=extent)
        if self.return_contexts and self._gives("tokens"):
            output |= self._match(output[Keys.IMAGE_TOKENS], output[Keys.WORD_TOKENS], output[Keys.WORD_MASK])
        if self._gives("scores"):
            output[Keys.IMAGE_SCORES] = self.prototypes(output[Keys.IMAGE_EMBEDDING])
            output[Keys.REPORT_SCORES] = self.prototypes(output[Keys.REPORT_EMBEDDING])
        return output
