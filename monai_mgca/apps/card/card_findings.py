# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What the page about a model says of findings that are known: zero-shot classification and negation."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from typing import Any

import torch

from monai_mgca.apps.card.card_content import BOOTSTRAP, measure_zero_shot
from monai_mgca.apps.image_text_model import PretrainedModel
from monai_mgca.apps.known_labels import known_labels
from monai_mgca.apps.negation.measure_negation import choose_pairs, compare_sentences
from monai_mgca.apps.zero_shot.prompts import prompted_classes
from monai_mgca.apps.zero_shot.zero_shot_classifier import ZeroShotClassifier
from monai_mgca.options import bundle_root
from monai_mgca.utils import DataError

__all__ = ["negation_table", "zero_shot_table"]

logger = logging.getLogger(__name__)


def zero_shot_table(
    model: PretrainedModel, image: torch.Tensor, data: Mapping[str, Any], args: argparse.Namespace
) -> dict[str, Any]:
    """The table of zero-shot classification, or why there is none.

    Args:
        model: a pretrained one.
        image: (N, D) unit vectors of the images.
        data: "entries", with labels if there are some, and "classes".
        args: of ``mgca card``.
    """
    classes = data["classes"]
    if not classes or not any(entry.get("labels") for entry in data["entries"]):
        return {"rows": [], "note": "The datalist has no labels of this section, which zero-shot is measured against."}
    try:
        found = prompted_classes(args.prompts, classes)
        classify = ZeroShotClassifier(model, args.prompts, found)
    except DataError as error:
        if args.own_prompts:
            raise
        logger.warning(f"Zero-shot classification is left out. {error}")  # names paths, which the page does not
        note = f"No prompts suit the classes {', '.join(classes)} and this model: write some, and give --prompts FILE."
        return {"rows": [], "note": note}
    return {"rows": measure_zero_shot(classify, image, data["entries"], classes), "note": ""}


def negation_table(model: PretrainedModel, image: torch.Tensor, data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The table of sentences against their negations, empty where there are no labels or the model lacks the words.

    Args:
        model: a pretrained one.
        image: (N, D) unit vectors of the images.
        data: "entries", with labels if there are some, and "classes".
    """
    classes = data["classes"]
    if not classes or not any(entry.get("labels") for entry in data["entries"]):
        return []
    try:
        pairs = choose_pairs(f"{bundle_root()}/configs/negation.json", classes)
        labels = known_labels(data["entries"], classes, list(pairs))
        figures = compare_sentences(model, image, labels, pairs, BOOTSTRAP)
    except DataError as error:
        logger.warning(f"Negation is left out. {error}")
        return []
    kinds = {"sentence": "sentence_balanced_accuracy", "name": "name_precision", "chance": "name_prevalence"}
    return [
        {"finding": name}
        | {title: figures[f"{kind}_{name.replace(' ', '_')}"] for title, kind in kinds.items()}
        | {end: figures[f"sentence_balanced_accuracy_{name.replace(' ', '_')}_{end}"] for end in ("low", "high")}
        for name in pairs
    ]
