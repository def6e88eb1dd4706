# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Tokenizes reports and says which pieces belong to which word."""

import os
from bisect import bisect_right
from collections.abc import Hashable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends

from monai_mgca.text.tokenizer_files import checked_tokenizer, cuts_as_bert, load_tokenizer
from monai_mgca.text.words import words_of_pieces

__all__ = ["TokenizeReport", "TokenizeReportD", "TokenizeReportDict", "TokenizeReportd"]

# SentencePiece's sign for it, where it is a piece by itself
SPACE = "\u2581"


class TokenizeReport(Transform):
    """Turn a clean report into word pieces, and record which pieces make up which word.

    Args:
        tokenizer: a fast tokenizer of transformers, or what ``AutoTokenizer.from_pretrained`` takes: a hub name or a
            local folder, loaded at the first report. A folder that holds no more than ``vocab.txt`` is a BERT's.
        max_length: L, the length in word pieces that every report is padded or cut to.
        official: put no full stop behind a sentence, and number the words as the official MGCA code does, for its
            published weights: a word is an opening piece and the "##" pieces behind it, [SEP] is a word, and a report
            that fills all L pieces loses its [SEP] and last word. (Slot 0 here is the one behind the official code's
            [CLS] slot.)
        whole_words: a word is all between two spaces, less the signs around it: 1.5 is one, whatever the tokenizer
            makes of it. If None, it is so but for the tokenizers of BERT and alike (DistilBERT, ELECTRA, MPNet), whose
            words are as they cut them, 1.5 three of them.

    Raises:
        ValueError: when ``max_length`` is below 3, or the tokenizer cannot be found, is not a fast one or has no
            vocabulary.
        TypeError: when called with neither a ``str`` nor a sequence of them.

    Note:
        ``TOKENIZERS_PARALLELISM`` is set to "false" where it is unset: one report at a time gains nothing from
        threads, and the forked workers of a DataLoader would warn of them.

    Example::

        from transformers import BertTokenizerFast
        from monai_mgca.transforms import TokenizeReport

        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no", "effusion", "##s"]
        tokenizer = BertTokenizerFast(vocab={piece: i for i, piece in enumerate(pieces)})
        print(TokenizeReport(tokenizer, max_length=6)(["no effusions"])["word_ids"])  # -1, 0, 1, 1, -1, -1
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self, tokenizer: Any, max_length: int = 112, official: bool = False, whole_words: bool | None = None
    ) -> None:
        if max_length < 3:
            raise ValueError(f"max_length must be at least 3 ([CLS], a word piece, [SEP]), got {max_length}.")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        # a folder is a path, whatever its name: the disk cache looks at its files
        self.source = Path(tokenizer) if isinstance(tokenizer, str) and os.path.isdir(tokenizer) else tokenizer
        self.max_length = max_length
        self.official = official
        self.whole_words = whole_words
        self._tokenizer: Any = None

    @property
    def tokenizer(self) -> Any:
        """The fast tokenizer, loaded at the first use."""
        if self._tokenizer is None:
            is_path = isinstance(self.source, (str, Path))
            self._tokenizer = load_tokenizer(self.source) if is_path else checked_tokenizer(self.source)
        return self._tokenizer

    def __call__(self, report: str | Sequence[str]) -> dict[str, torch.Tensor]:
        """
        Args:
            report: the sentences of :class:`CleanReport`, each of which gets a full stop, or one text as it is.

        Returns:
            ``input_ids``, ``attention_mask`` (1 on all but padding), ``word_ids`` (the number of each piece's word
            from 0 on, -1 on pieces of no word) and ``sentence_ids`` (the number of its sentence, -1 on special
            tokens), int64, each of shape (L,).
        """
        is_list = isinstance(report, Sequence) and all(isinstance(sentence, str) for sentence in report)
        if not is_list:  # a text is one, too
            raise TypeError(f"a report must be a str or a sequence of str, got {type(report).__name__}.")
        sentences = [report] if isinstance(report, str) else list(report)
        # language models know sentences by their full stops; the official code gives them none
        stop = "" if self.official or isinstance(report, str) else "."
        text = " ".join(sentence + stop for sentence in sentences)
        ids, found, spans = self.pieces(text, self.max_length)
        first = [_first(text, span) for span in spans]
        starts = [0, *accumulate(len(sentence + stop) + 1 for sentence in sentences)]
        stops = {start - 2 for start in starts[1:]} if stop else set()
        # a full stop belongs to its sentence, but is no word
        words = [None if start in stops else word for word, start in zip(found, first, strict=True)]
        sentence_ids = [-1 if start is None else bisect_right(starts, start) - 1 for start in first]
        if self.official:
            tokens = [*self.tokenizer.convert_ids_to_tokens(ids), *[""] * (self.max_length - len(ids))]
            word_ids = _official_word_ids(tokens, self.tokenizer.sep_token)
        else:
            word_ids = _word_ids(words)
        columns = {
            "input_ids": (ids, self.tokenizer.pad_token_id or 0),  # without a token for it any does: it is not seen
            "attention_mask": ([1] * len(ids), 0),
            "word_ids": (word_ids, -1),
            "sentence_ids": (sentence_ids, -1),
        }
        return {
            key: torch.tensor([*values, *[empty] * (self.max_length - len(values))], dtype=torch.int64)
            for key, (values, empty) in columns.items()
        }

    def pieces(
        self, text: str, max_length: int | None = None
    ) -> tuple[list[int], list[int | None], list[tuple[int, int] | None]]:
        """Cut a text into pieces.

        Args:
            text: any text.
            max_length: cut to so many pieces, special tokens among them; None for all.

        Returns:
            Their ids, without padding; numbers that are equal for the pieces of one word and rise, None for pieces of
            no word; and what each covers of the text, None for special tokens.
        """
        encoding = self.tokenizer(
            text,
            max_length=max_length,
            truncation=max_length is not None,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )
        offsets, words = encoding["offset_mapping"], encoding.word_ids()
        whole = not cuts_as_bert(self.tokenizer) if self.whole_words is None else self.whole_words
        if not whole:
            spans = [None if word is None else span for word, span in zip(words, offsets, strict=True)]
            return encoding["input_ids"], words, spans
        parts = zip(encoding["special_tokens_mask"], offsets, encoding.tokens(), strict=True)
        # a space that SentencePiece puts before the text covers the first letter
        spans = [
            None if own else (start, start if token == SPACE and not text[start:end].isspace() else end)
            for own, (start, end), token in parts
        ]
        return encoding["input_ids"], words_of_pieces(text, spans), spans


def _first(text: str, span: tuple[int, int] | None) -> int | None:
    """The place of a piece's first letter; of one that covers a space alone it is that of the letter behind."""
    if span is None:
        return None
    return span[1] - len(text[slice(*span)].lstrip())


def _word_ids(words: Sequence[int | None]) -> list[int]:
    """Number the words from 0 on without gaps; -1 for special tokens."""
    numbers: dict[int, int] = {}
    return [-1 if word is None else numbers.setdefault(word, len(numbers)) for word in words]


def _official_word_ids(tokens: Sequence[str], sep_token: str) -> list[int]:
    """The word slots of the official code, less its first, which holds [CLS] and the "##" pieces that follow it."""
    word_ids = [-1] * len(tokens)
    word = -1
    for i, token in enumerate(tokens[:-1]):
        if i > 0 and not token.startswith("##"):
            word += 1
        word_ids[i] = word
        if token == sep_token:
            return word_ids
    # Nothing closed the last word: the official code never stores it.
    return [-1 if i == word else i for i in word_ids]


class TokenizeReportd(MapTransform):
    """Dictionary-based version of :class:`TokenizeReport`.

    It adds ``input_ids``, ``attention_mask``, ``word_ids`` and ``sentence_ids`` and leaves the report as it is.

    Args:
        keys: the key of the report: one, for there is one set of outputs.
        tokenizer: see :class:`TokenizeReport`; so are the next two.
        max_length: tokens of a report, [CLS] and [SEP] among them.
        official: the official code's words.
        allow_missing_keys: do not raise where the key is missing.
        whole_words: see :class:`TokenizeReport`.

    Raises:
        ValueError: when there is more than one key.
    """

    backend = TokenizeReport.backend

    def __init__(
        self,
        keys: KeysCollection,
        tokenizer: Any,
        max_length: int = 112,
        official: bool = False,
        allow_missing_keys: bool = False,
        whole_words: bool | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) != 1:
            raise ValueError(f"TokenizeReportd takes one key, got {self.keys}.")
        self.tokenize = TokenizeReport(tokenizer, max_length, official, whole_words)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d.update(self.tokenize(d[key]))
        return d


TokenizeReportD = TokenizeReportDict = TokenizeReportd
