# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The keys of a batch beyond those of MONAI."""

from __future__ import annotations

from monai.utils import StrEnum

__all__ = ["MGCAKeys"]


class MGCAKeys(StrEnum):
    """Keys of the dictionary that :class:`monai_mgca.networks.MGCA` returns and the losses and metrics read.

    B batch, P image tokens, W words, D embedding size, K prototypes.
    """

    IMAGE_EMBEDDING = "image_embedding"  # (B, D), unit length
    REPORT_EMBEDDING = "report_embedding"  # (B, D), unit length
    IMAGE_TOKENS = "image_tokens"  # (B, P, D), unit length
    WORD_TOKENS = "word_tokens"  # (B, W, D), unit length, zero where there is no word
    IMAGE_CONTEXT = "image_context"  # (B, P, D), what each image token finds in the report
    WORD_CONTEXT = "word_context"  # (B, W, D), what each word finds in the image
    IMAGE_WEIGHTS = "image_weights"  # (B, P), rows sum to 1
    WORD_WEIGHTS = "word_weights"  # (B, W), rows sum to 1, or to 0 where a report has no word
    WORD_MASK = "word_mask"  # (B, W) bool, True on words
    IMAGE_SCORES = "image_scores"  # (B, K), cosines of the image with the prototypes
    REPORT_SCORES = "report_scores"  # (B, K), cosines of the report with the prototypes
