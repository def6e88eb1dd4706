# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The outlier score of a pretraining, which is kept in a small file beside its weights."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from monai_mgca.metrics.outlier_score import OutlierScore
from monai_mgca.utils.errors import DataError
from monai_mgca.utils.files import remove_unfinished, replacing
from monai_mgca.utils.hashing import hash_contents

__all__ = ["outlier_path", "read_outlier_score", "write_outlier_score"]

logger = logging.getLogger(__name__)

ENCODER = "encoder"
NUMBERS = ("residual", "threshold")
MEND = "delete it, and make it anew with mgca outliers --fit"


def outlier_path(checkpoint: str | os.PathLike) -> Path:
    """Where the outlier score of weights stands: ``model_outliers.safetensors`` of model.pt and model_pretrain.pt.

    Args:
        checkpoint: the weights.

    Example::

        print(outlier_path("models/model_pretrain.pt"))  # models/model_outliers.safetensors
    """
    path = Path(checkpoint)
    return path.with_name(f"{path.stem.removesuffix('_pretrain')}_outliers.safetensors")


def write_outlier_score(checkpoint: str | os.PathLike, score: OutlierScore, encoder: nn.Module) -> Path:
    """Keep an outlier score beside the weights that it is of.

    Args:
        checkpoint: the weights.
        score: fitted to features of the encoder.
        encoder: of images, with these weights, by which the score is known to be theirs.

    Returns:
        The path of the file, which appears whole or not at all.

    Example::

        from monai_mgca.metrics import fit_outlier_score
        encoder = create_image_encoder("resnet_tiny")
        print(write_outlier_score("model_pretrain.pt", fit_outlier_score(torch.randn(50, 128)), encoder))
    """
    tensors = {"mean": score.mean, "axes": score.axes, "variances": score.variances}
    tensors |= {name: torch.tensor([getattr(score, name)], dtype=torch.float64) for name in NUMBERS}
    path = outlier_path(checkpoint)
    remove_unfinished(path.parent, path.name)  # of a training that was killed here
    with replacing(path) as temporary:
        # not its own save_file: only the user could read that, and a full disk would be no OSError
        content = {name: value.contiguous() for name, value in tensors.items()}
        temporary.write_bytes(save(content, {ENCODER: _fingerprint(encoder)}))
    return path


def read_outlier_score(checkpoint: str | os.PathLike, encoder: nn.Module) -> OutlierScore | None:
    """What :func:`write_outlier_score` kept.

    Args:
        checkpoint: the weights.
        encoder: of images, as the weights were loaded into it.

    Returns:
        The score; None where there is none, or it is of an encoder with other weights, which the log says.

    Raises:
        DataError: when the file is damaged.

    Example::

        print(read_outlier_score("model_pretrain.pt", create_image_encoder("resnet_tiny")))  # None
    """
    path = outlier_path(checkpoint)
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            fingerprint = (file.metadata() or {}).get(ENCODER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dictionary
        score = _checked(tensors)
    except (SafetensorError, KeyError, ValueError) as error:
        raise DataError(f"{path} is damaged ({type(error).__name__}: {error}): {MEND}.") from None
    if fingerprint != _fingerprint(encoder):
        logger.warning(f"{path} is of other weights than {Path(checkpoint).name}, and is not used.")
        return None
    return score


def _checked(tensors: dict[str, torch.Tensor]) -> OutlierScore:
    """The score in a file's tensors, whose sizes belong together."""
    mean, axes, variances = (tensors[name] for name in ("mean", "axes", "variances"))
    residual, threshold = (float(tensors[name].double().reshape(())) for name in NUMBERS)
    if mean.ndim != 1 or variances.ndim != 1 or axes.shape != (len(mean), len(variances)):
        raise ValueError("its sizes do not belong together")
    numbers = torch.cat([mean, axes.flatten(), variances, torch.tensor([residual, threshold])])
    if not numbers.isfinite().all() or not variances.gt(0).all() or not residual > 0:
        raise ValueError("it holds numbers that no score has")
    return OutlierScore(mean, axes, variances, residual, threshold)


def _fingerprint(encoder: nn.Module) -> str:
    return "sha256:" + hash_contents(dict(encoder.state_dict()))
