# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The fast tokenizer of a report encoder, loaded from its files and checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers

from monai_mgca.text.sentence_folder import encoder_folder

__all__ = ["begins_with_token", "checked_tokenizer", "cuts_as_bert", "load_tokenizer"]


def load_tokenizer(source: str | os.PathLike) -> Any:
    """Load a fast tokenizer of transformers; code that comes with a model is never run.

    Args:
        source: a folder, or a hub's model. A folder that holds no more than ``vocab.txt`` is a BERT's.

    Raises:
        ValueError: when there is none, it is not a fast one, or it has more pieces than the encoder beside it.

    Example::

        from monai_mgca.data.sample.small_report_encoder import write_report_encoder

        write_report_encoder(Path("report_encoder"))
        print(load_tokenizer("report_encoder").tokenize("no effusion"))
    """
    source = encoder_folder(source)
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
    except (OSError, ValueError, ImportError, TypeError) as e:  # of slow ones their libraries, or files, are not there
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
    return checked_tokenizer(tokenizer)


def _settings(source: str | os.PathLike) -> dict[str, Any]:
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


def checked_tokenizer(tokenizer: Any) -> Any:
    """The tokenizer itself, where it is a fast one that knows words.

    Args:
        tokenizer: of transformers.

    Raises:
        ValueError: when it is a slow one, or something else, or has no vocabulary.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"a fast tokenizer of transformers is needed for the words, got {type(tokenizer).__name__}: take a model "
            "whose folder holds a tokenizer.json, as those of BERT, RoBERTa, XLM-R, MPNet, DeBERTa and ModernBERT do."
        )
    if _is_bare(tokenizer):  # as transformers 5 makes one silently of BertTokenizerFast(vocab_file=...)
        raise ValueError("the tokenizer knows its special tokens alone: load it with from_pretrained(folder).")
    return tokenizer


def cuts_as_bert(tokenizer: Any) -> bool:
    """Whether a tokenizer cuts a text into words as BERT does: at every sign, the point in 1.5 among them.

    Args:
        tokenizer: a fast one.
    """
    return type(tokenizer.backend_tokenizer.pre_tokenizer).__name__ == "BertPreTokenizer"


def begins_with_token(tokenizer: Any) -> bool:
    """Whether a tokenizer puts a token of its own, [CLS] or <s>, before a text.

    Args:
        tokenizer: a fast one.
    """
    found = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
    return bool(found) and found[0] == 1
