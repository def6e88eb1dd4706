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
import transformers
from monai.config import KeysCollection, PathLike
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends

__all__ = ["TokenizeReport", "TokenizeReportD", "TokenizeReportDict", "TokenizeReportd"]


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

    def __init__(self, tokenizer: Any, max_length: int = 112, official: bool = False) -> None:
        if max_length < 3:
            raise ValueError(f"max_length must be at least 3 ([CLS], a word piece, [SEP]), got {max_length}.")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        # a folder is a path, whatever its name: the disk cache looks at its files
        self.source = Path(tokenizer) if isinstance(tokenizer, str) and os.path.isdir(tokenizer) else tokenizer
        self.max_length = max_length
        self.official = official
        self._tokenizer: Any = None

    @property
    def tokenizer(self) -> Any:
        """The fast tokenizer, loaded at the first use."""
        if self._tokenizer is None:
            self._tokenizer = _checked(_load(self.source) if isinstance(self.source, (str, Path)) else self.source)
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
        encoding = self.tokenizer(
            " ".join(sentence + stop for sentence in sentences),
            max_length=self.max_length,
            truncation=True,
            padding="max_length",
            padding_side="right",
            return_offsets_mapping=True,
        )
        starts = [0, *accumulate(len(sentence + stop) + 1 for sentence in sentences)]
        stops = {start - 2 for start in starts[1:]} if stop else set()
        first = [start for start, _ in encoding["offset_mapping"]]
        # a full stop belongs to its sentence, but is no word
        words = [None if start in stops else word for word, start in zip(encoding.word_ids(), first, strict=True)]
        sentence_ids = [
            -1 if word is None else bisect_right(starts, start) - 1
            for word, start in zip(encoding.word_ids(), first, strict=True)
        ]
        if self.official:
            tokens = self.tokenizer.convert_ids_to_tokens(encoding["input_ids"])
            word_ids = _official_word_ids(tokens, self.tokenizer.sep_token)
        else:
            word_ids = _word_ids(words)
        return {
            "input_ids": torch.tensor(encoding["input_ids"], dtype=torch.int64),
            "attention_mask": torch.tensor(encoding["attention_mask"], dtype=torch.int64),
            "word_ids": torch.tensor(word_ids, dtype=torch.int64),
            "sentence_ids": torch.tensor(sentence_ids, dtype=torch.int64),
        }


def _load(source: PathLike) -> Any:
    folder = Path(source)
    # AutoTokenizer detects the kind of tokenizer from files that a bare vocabulary lacks.
    bare = (folder / "vocab.txt").is_file() and not any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "config.json")
    )
    settings = _settings(source)
    kind = transformers.BertTokenizer if bare or _is_bert_of_own_code(folder, settings) else transformers.AutoTokenizer
    try:
        # a folder's own code is never run, nor asked about at the terminal
        tokenizer = kind.from_pretrained(str(source), local_files_only=folder.is_dir(), trust_remote_code=False)
        if _is_bare(tokenizer):  # transformers 5.0 makes one of an empty folder
            raise ValueError("it has no vocabulary.")
    except (OSError, ValueError) as e:
        raise ValueError(
            f"no tokenizer could be loaded from '{source}': pass a local folder that holds the tokenizer's files "
            "(tokenizer.json, or vocab.txt), or a hub name where there is a network."
        ) from e
    size = settings.get("vocab_size")
    if isinstance(size, int) and len(tokenizer) > size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} pieces, the encoder {size} (vocab_size in the config.json of "
            f"'{source}'): they are not of one model. Put the tokenizer's files there that the encoder was made with."
        )
    return tokenizer


def _settings(source: PathLike) -> dict[str, Any]:
    """The settings of the encoder that a tokenizer lies beside; none where there are none."""
    try:
        settings: dict[str, Any] = transformers.PretrainedConfig.get_config_dict(str(source))[0]
        return settings
    except (OSError, ValueError):
        return {}


def _is_bert_of_own_code(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Whether a model that transformers does not know calls itself a BERT and has a BERT's vocabulary, as CXR-BERT."""
    kind = str(settings.get("model_type", "bert"))
    return "bert" in kind and kind not in transformers.CONFIG_MAPPING and (folder / "vocab.txt").is_file()


def _is_bare(tokenizer: Any) -> bool:
    return len(tokenizer) <= len(tokenizer.all_special_ids)


def _checked(tokenizer: Any) -> Any:
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"a fast tokenizer of transformers is needed for the words, got {type(tokenizer).__name__}.")
    if _is_bare(tokenizer):  # as transformers 5 makes one silently of BertTokenizerFast(vocab_file=...)
        raise ValueError("the tokenizer knows its special tokens alone: load it with from_pretrained(folder).")
    return tokenizer


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
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) != 1:
            raise ValueError(f"TokenizeReportd takes one key, got {self.keys}.")
        self.tokenize = TokenizeReport(tokenizer, max_length, official)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d.update(self.tokenize(d[key]))
        return d


TokenizeReportD = TokenizeReportDict = TokenizeReportd
