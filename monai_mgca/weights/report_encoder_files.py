# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Keeps the report encoder's config and tokenizer beside the weights."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import transformers

from monai_mgca.text.sentence_folder import encoder_folder, pooling_files
from monai_mgca.utils.errors import CheckpointError
from monai_mgca.utils.files import remove_unfinished, replacing
from monai_mgca.weights.model_settings import COPY

__all__ = ["keep_report_encoder"]

# what defines sizes and words of an encoder; its weights are in those of the training
FILES = (
    "config.json",
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    # of byte-level BPE
    "vocab.json",
    "merges.txt",
    # of SentencePiece, under the names of different models
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
    # of fastBPE
    "bpe.codes",
    "dict.txt",
)


def keep_report_encoder(source: str | os.PathLike, folder: str | os.PathLike) -> str:
    """Copy sizes and tokenizer of a report encoder beside the weights that were trained with it.

    The weights can then be used from any place, after a move, without network, and whatever becomes of the source.
    The copy's name identifies its content: another training in the same folder does not touch it.

    Args:
        source: a folder, or a hub's model.
        folder: of the weights.

    Returns:
        The name of the copy in that folder.

    Raises:
        CheckpointError: when the source is no longer where it was.

    Example::

        Path("bert").mkdir()
        Path("bert/config.json").write_text('{"model_type": "bert"}')
        print(keep_report_encoder("bert", "models"))  # report_encoder-0adc26e1
    """
    with tempfile.TemporaryDirectory() as temporary:
        found = Path(encoder_folder(source)) if Path(source).is_dir() else _fetch(source, Path(temporary))
        files = {name: (found / name).read_bytes() for name in FILES if (found / name).is_file()}
        files |= pooling_files(source)  # of sentence-transformers
    if "config.json" not in files:
        raise CheckpointError(f"The report encoder '{source}' holds no config.json any more: put it back.")
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}:{len(content)}:".encode() + content)
    copy = Path(folder) / f"{COPY}{digest.hexdigest()[:8]}"
    if not all((copy / name).is_file() for name in files):
        copy.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (copy / name).parent.mkdir(exist_ok=True)
            with replacing(copy / name, sync=True) as path:
                path.write_bytes(content)
    remove_unfinished(copy)
    return copy.name


def _fetch(source: str | os.PathLike, folder: Path) -> Path:
    """The files of a hub's model, which the training has in the hub's cache."""
    try:
        transformers.AutoConfig.from_pretrained(source, trust_remote_code=False).save_pretrained(folder)
        transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False).save_pretrained(folder)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"The report encoder '{source}' is neither a folder nor a hub name that can be reached any more."
        ) from error
    return folder
