# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""One call from a place to a pretrained model: a file, a folder of a training, or a repository of the hub."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from huggingface_hub import snapshot_download

from monai_mgca.apps.image_text_model import PretrainedModel, load_pretrained
from monai_mgca.utils.errors import CheckpointError

__all__ = ["load"]

_FILE = "model_pretrain.pt"
# of a repository: the weights and what stands beside them
_PARTS = (
    _FILE,
    "model.json",
    "model_outliers.safetensors",
    "model_pretrain_calibration.json",
    "report_encoder-*/*",
    f"models/{_FILE}",
    "models/model.json",
    "models/model_outliers.safetensors",
    "models/model_pretrain_calibration.json",
    "models/report_encoder-*/*",
)


def load(source: str | os.PathLike, device: torch.device | str | None = None) -> PretrainedModel:
    """A pretrained model with its transforms and tokenizer, ready to embed images and texts.

    Nothing that is pickled in the weights is run, and no code that comes with them.

    Args:
        source: ``model_pretrain.pt``; a folder with it, such as ``models`` of a bundle or the bundle itself; or the
            name of a repository of the Hugging Face hub that holds such a folder.
        device: where to compute; a GPU if there is one.

    Raises:
        CheckpointError: when there is no such file or folder, and no repository that can be reached.

    Example::

        import monai_mgca
        model = monai_mgca.load("bundles/mgca")
        images = model.embed_images(["bundles/mgca/data/sample/images/sample_00037.png"])
        texts = model.embed_texts(["right pneumothorax", "no pneumothorax"])
        print(images @ texts.T)
    """
    path = Path(source)
    if path.is_dir():
        found = [path / part for part in (_FILE, f"models/{_FILE}") if (path / part).is_file()]
        if not found:
            raise CheckpointError(f"The folder '{path}' holds no {_FILE}, nor does its folder models: pretrain first.")
        path = found[0]
    elif not path.is_file():
        if path.suffix in (".pt", ".safetensors") or os.fspath(source).count("/") != 1:
            raise CheckpointError(f"There is no file or folder '{source}': check the path, or pretrain first.")
        try:
            return load(snapshot_download(os.fspath(source), allow_patterns=list(_PARTS)), device)
        except CheckpointError:
            raise
        except Exception as error:  # the hub's client has many errors, and all mean that there is nothing
            raise CheckpointError(
                f"'{source}' is neither a file nor a folder, nor a repository of the hub that can be reached from "
                "here: without network, download it where there is one and give the folder."
            ) from error
    return load_pretrained(path, device)
