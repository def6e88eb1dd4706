# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The folder from which transformers builds a compact, untrained report encoder and its tokenizer."""

from __future__ import annotations

import json
import string
from pathlib import Path

from monai_mgca.utils.files import replacing

from .wording import vocabulary

__all__ = ["ENCODER_FILES", "write_report_encoder"]

ENCODER_FILES = ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "config.json")
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_MAX_LENGTH = 128


def wordpieces(language: str = "en") -> list[str]:
    """The special tokens, the words of the sample's reports, and what spells any other text in their letters."""
    words = [word for word in vocabulary(language) if len(word) > 1]
    accented = sorted({letter for word in words for letter in word if not letter.isascii()})
    letters = [*string.ascii_lowercase, *string.digits, *accented]
    return [*_SPECIAL, *string.punctuation, *letters, *("##" + letter for letter in letters), *words]


def _tokenizer(vocab: dict[str, int], accents: dict[str, bool]) -> dict:
    """The tokenizer as the tokenizers library stores it."""
    special = [
        {"id": vocab[t], "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        for t in _SPECIAL
    ]
    cls, sep = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ("[CLS]", "[SEP]"))
    first, second = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    last = {"SpecialToken": {"id": "[SEP]", "type_id": 1}}
    ids = {token: {"id": token, "ids": [vocab[token]], "tokens": [token]} for token in ("[CLS]", "[SEP]")}
    cleaning = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True, **accents}
    single, pair = [cls, first, sep], [cls, first, sep, second, last]
    model = {"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{**token, "special": True} for token in special],
        "normalizer": {"type": "BertNormalizer", **cleaning},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": ids},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", **model},
    }


def write_report_encoder(folder: Path, language: str = "en") -> None:
    """Write config.json of a two-layer BERT and the files of its tokenizer; no weights: it is trained from scratch.

    Args:
        folder: for ``transformers.AutoConfig.from_pretrained`` and ``AutoTokenizer.from_pretrained``.
        language: whose words the tokenizer has whole, several joined by "+". But for English alone it keeps accents.

    Example::

        write_report_encoder(Path("report_encoder"))
        tokenizer = transformers.AutoTokenizer.from_pretrained("report_encoder")
        tokenizer.tokenize("Small left effusion")  # ["small", "left", "effusion"]
    """
    pieces = wordpieces(language)
    accents = {} if language == "en" else {"strip_accents": False}
    config = {"model_type": "bert", "architectures": ["BertModel"], "vocab_size": len(pieces), "pad_token_id": 0}
    config |= {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}
    config |= {"max_position_embeddings": _MAX_LENGTH, "type_vocab_size": 2, "hidden_act": "gelu"}
    names = {f"{token.strip('[]').lower()}_token": token for token in _SPECIAL}
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": _MAX_LENGTH,
        **accents,
        **names,
    }
    texts = {
        "vocab.txt": "".join(piece + "\n" for piece in pieces),
        "tokenizer.json": json.dumps(_tokenizer({piece: i for i, piece in enumerate(pieces)}, accents), indent=1),
        "tokenizer_config.json": json.dumps(settings, indent=1),
        "config.json": json.dumps(config, indent=1),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name in ENCODER_FILES:
        with replacing(folder / name) as temporary:
            temporary.write_text(texts[name], encoding="utf-8")
