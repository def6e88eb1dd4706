# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The probabilities that weights give the images of a section before a calibration, beside the labels."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.networks import eval_mode
from monai.transforms import Compose
from monai.utils import CommonKeys

from monai_mgca.apps.choose_data import choose_data
from monai_mgca.apps.image_text_model import load_pretrained
from monai_mgca.apps.labeled_set import LabeledSet, load_set
from monai_mgca.apps.load_images import image_batches
from monai_mgca.apps.zero_shot.prompts import prompted_classes
from monai_mgca.apps.zero_shot.zero_shot_classifier import ZeroShotClassifier
from monai_mgca.data import class_names
from monai_mgca.networks import create_classifier
from monai_mgca.transforms import default_preprocessing, trained_preprocessing
from monai_mgca.utils import CheckpointError, DataError
from monai_mgca.utils.progress import progress_bar
from monai_mgca.weights import load_network, read_model_settings
from monai_mgca.weights.model_settings import naming_settings

__all__ = ["Scores", "compute_scores"]


class Scores(NamedTuple):
    """Probabilities and labels of images."""

    classes: list[str]
    probabilities: np.ndarray  # (N, C)
    labels: np.ndarray  # (N, C) of 0 and 1, nan where unknown
    patients: list[Any]  # N
    label_mode: str = "multilabel"
    texts: tuple[int, ...] = ()  # C, of zero-shot: by which it is known what the finding was compared with


def compute_scores(args: argparse.Namespace) -> Scores:
    """Compute the probabilities of a section: of a pretraining by texts, of a finetuned classification by its network.

    Args:
        args: of ``mgca calibrate``; where the data are is filled in.

    Raises:
        CheckpointError: when the weights cannot be read, or are of another task.
        DataError: when the options or the data do not fit.
    """
    path = Path(args.checkpoint)
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint file '{path}': check the path of --checkpoint, or train first.")
    own = path.with_suffix(".json").name
    name = own if path.with_suffix(".json").is_file() else "model.json"
    settings = read_model_settings(path, name, required=True)
    args.spatial_dims, args.label_mode = settings.get("spatial_dims", 2), settings.get("label_mode", "multilabel")
    if "label_mode" not in settings and "report_encoder" not in settings:
        raise CheckpointError(
            f"'{path}' has no probabilities to calibrate: give model_pretrain.pt of a pretraining, or "
            "model_classification.pt."
        )
    choose_data(args, args.checkpoint, name)
    if "label_mode" in settings:
        return _finetuned(args, settings, name)
    return _zero_shot(args)


def _scores(args: argparse.Namespace, data: LabeledSet, probabilities: torch.Tensor, texts: tuple = ()) -> Scores:
    patients = [item["patient"] for item in data.items]
    return Scores(args.classes, probabilities.double().cpu().numpy(), data.labels, patients, args.label_mode, texts)


def _zero_shot(args: argparse.Namespace) -> Scores:
    if not args.temperature > 0:
        raise DataError(f"--temperature must be more than 0, got {args.temperature:g}.")
    model = load_pretrained(args.checkpoint)
    args.classes = args.classes or prompted_classes(args.prompts, class_names(args.datalist, "classification"))
    data = load_set(args, args.section)
    classify = ZeroShotClassifier(model, args.prompts, args.classes, args.temperature, calibrated=False)
    classify = classify.to(model.device)
    found = classify.classify(model.embed_images(data.items).to(model.device))
    return _scores(args, data, found, classify.texts)


@torch.no_grad()
def _finetuned(args: argparse.Namespace, settings: Mapping[str, Any], name: str) -> Scores:
    known = list(settings["classes"])
    args.classes = args.classes or known
    if unknown := [c for c in args.classes if c not in known]:
        raise DataError(f"--classes: {args.checkpoint} has no class {', '.join(unknown)}; it has {', '.join(known)}.")
    if args.label_mode == "multiclass" and args.classes != known:
        raise DataError("--classes: exactly one of the classes is in an image, so all are calibrated together.")
    data = load_set(args, args.section)
    sizes = {key: settings[key] for key in ("image_size", "in_channels")}
    with naming_settings(args.checkpoint, name):
        of_volumes = {key: settings[key] for key in ("spatial_dims", "patch_size") if settings.get(key) is not None}
        network = create_classifier(settings["image_encoder"], len(known), **sizes, **of_volumes)
        steps = trained_preprocessing(settings, default_preprocessing(**sizes))
    load_network(network, args.checkpoint)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with image_batches(data.items, Compose(steps), args.spatial_dims) as batches, eval_mode(network.to(device)):
        parts = [
            network(batches[number][CommonKeys.IMAGE].to(device)).float().cpu()
            for number in progress_bar(range(len(batches)), "images")
        ]
    logits = torch.cat(parts)
    found = logits.softmax(1) if args.label_mode == "multiclass" else logits.sigmoid()
    return _scores(args, data, found[:, [known.index(c) for c in args.classes]])
