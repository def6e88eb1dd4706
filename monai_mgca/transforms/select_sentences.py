# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Chooses sentences of a report at random, as augmentation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import RandomizableTransform

__all__ = ["RandSelectSentencesD", "RandSelectSentencesDict", "RandSelectSentencesd"]


class RandSelectSentencesd(RandomizableTransform):
    """Keep a random part of a tokenized report's sentences; the others become padding.

    Short texts, such as the prompts of zero-shot classification, are then no strangers to the model, and small data
    sets last longer. It works on what ``TokenizeReportd`` made, so that cached tokens, and cached states of a frozen
    report encoder, stay as they are. At least one sentence is kept.

    Args:
        prob: of selecting at all.
        share: probability of each sentence to be kept.

    Raises:
        ValueError: when ``share`` is not between 0 and 1.

    Example::

        report = {
            "attention_mask": torch.tensor([1, 1, 1, 1, 0]),
            "word_ids": torch.tensor([-1, 0, 1, -1, -1]),
            "sentence_ids": torch.tensor([-1, 0, 1, -1, -1]),
        }
        print(RandSelectSentencesd(prob=1).set_random_state(0)(report)["word_ids"])
    """

    def __init__(self, prob: float = 0.7, share: float = 0.5) -> None:
        super().__init__(prob)
        if not 0 <= share <= 1:
            raise ValueError(f"share must be between 0 and 1, got {share}.")
        self.share = share

    def randomize(self, data: int) -> None:
        """Draw which of so many sentences are kept."""
        super().randomize(None)
        self.keep = self.R.random(data) < self.share
        self.keep[self.R.randint(data)] = True

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: with "attention_mask", "word_ids" and "sentence_ids" (L,), as ``TokenizeReportd`` makes them.
        """
        sentences = data["sentence_ids"]
        self.randomize(max(1, int(sentences.max()) + 1))
        if not self._do_transform:
            return dict(data)
        left_out = (sentences >= 0) & ~torch.from_numpy(self.keep)[sentences.clamp(min=0)]
        return {
            **data,
            "attention_mask": data["attention_mask"].masked_fill(left_out, 0),
            "word_ids": data["word_ids"].masked_fill(left_out, -1),
        }


RandSelectSentencesD = RandSelectSentencesDict = RandSelectSentencesd
