# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Classification by texts alone: the similarity of an image to what is said if a finding is there or not."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from monai_mgca.apps.image_text_model import PretrainedModel
from monai_mgca.utils import DataError
from monai_mgca.utils.files import parse_json

__all__ = ["Prompts", "ZeroShotClassifier", "prompted_classes", "read_prompts"]

logger = logging.getLogger(__name__)

SIDES = ("positive", "negative")
EXAMPLE = '{"effusion": {"positive": ["small left pleural effusion"], "negative": ["no pleural effusion"]}}'


class Prompts(NamedTuple):
    """What reports say where a finding is there, and where it is not."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    names: tuple[str, ...] = ()  # what else the finding is called


def read_prompts(path: str | os.PathLike) -> dict[str, Prompts]:
    """Read the prompts of findings.

    Args:
        path: a JSON file, an object with an object for each finding: ``positive`` and ``negative``, lists of texts, and
            if need be ``names``, what datalists call the finding besides.

    Returns:
        The prompts by finding, in the file's order.

    Raises:
        DataError: when there is no such file, it is not such JSON, or a finding lacks a side or has an empty text,
            naming file, finding and mend.

    Example::

        with open("prompts.json", "w") as file:
            file.write('{"edema": {"positive": ["pulmonary edema"], "negative": ["no edema"]}}')
        print(read_prompts("prompts.json")["edema"].positive)  # ('pulmonary edema',)
    """
    if not Path(path).is_file():
        raise DataError(f"no such file of prompts: {path}. Write one, as {EXAMPLE}.")
    try:
        document = parse_json(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # says where
        raise DataError(f"{path} is not JSON ({error}): write it as {EXAMPLE}.") from None
    if not isinstance(document, dict) or not document:
        raise DataError(f"{path} holds no findings: write it as {EXAMPLE}.")
    return {finding: _prompts(f"{path}: finding '{finding}'", sides) for finding, sides in document.items()}


def _prompts(place: str, sides: Any) -> Prompts:
    if not isinstance(sides, dict):
        raise DataError(f"{place} must be an object with 'positive' and 'negative': write it as {EXAMPLE}.")
    foreign = sorted(set(sides) - set(Prompts._fields))
    if foreign:
        raise DataError(f"{place} has the unknown key '{foreign[0]}'; it may have {', '.join(Prompts._fields)}.")
    for side in SIDES:
        if not sides.get(side):
            state = "an empty list" if side in sides else "no list"
            raise DataError(f"{place} has {state} '{side}': give texts, as {EXAMPLE}.")
    for key, texts in sides.items():
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise DataError(f"{place}: '{key}' must be a list of texts, as {EXAMPLE}.")
        for number, text in enumerate(texts, 1):
            if not text.strip():
                raise DataError(f"{place}: text {number} of '{key}' is empty: fill it, or take it out.")
    return Prompts(**{key: tuple(texts) for key, texts in sides.items()})


def prompted_classes(path: str | os.PathLike, classes: Sequence[str]) -> list[str]:
    """Those of a datalist's classes that a file of prompts knows, by the finding's name or one of its other names.

    Args:
        path: as for :func:`read_prompts`.
        classes: names in any case. The others are told in the log.

    Raises:
        DataError: when there is none; as :func:`read_prompts`.

    Example::

        with open("prompts.json", "w") as file:
            file.write('{"edema": {"positive": ["pulmonary edema"], "negative": ["no edema"]}}')
        print(prompted_classes("prompts.json", ["Edema", "mass"]))  # ['Edema']
    """
    prompts = read_prompts(path)
    found = [name for name in classes if _find(prompts, name)]
    if not found:
        raise DataError(
            f"{path} has prompts for none of the classes {', '.join(classes)}; it has them for {', '.join(prompts)}. "
            "Write prompts under a class's name, or add that to the finding's 'names'."
        )
    left_out = [name for name in classes if name not in found]
    if left_out:
        logger.info(f"Left out, because {path} has no prompts for them: {', '.join(left_out)}.")
    return found


def _find(prompts: Mapping[str, Prompts], name: str) -> Prompts | None:
    known = {other.lower(): sides for finding, sides in prompts.items() for other in (*sides.names, finding)}
    return known.get(name.lower())


class ZeroShotClassifier(nn.Module):
    """Probabilities of findings in radiographs, from texts alone.

    An image's probability of a finding is the softmax of its similarities to what reports say with and without it,
    divided by the temperature of the pretraining: 0.5 is as near to the one as to the other. Each side is the mean of
    its texts' unit vectors, scaled to unit length. Parameters are those of the pretrained network; nothing is trained.

    Args:
        model: a pretrained model.
        prompts: a file as for :func:`read_prompts`, or what it gives.
        classes: names of the findings, in this order; all of the prompts by default.
        temperature: of the instance alignment in the pretraining.

    Raises:
        DataError: when a class has no prompts; when a text has no known word or is too long; as
            :func:`read_prompts`; naming file and finding.
        ValueError: for a temperature that is not positive.

    Example::

        model = load_pretrained("bundles/mgca/models/model_pretrain.pt")
        classify = ZeroShotClassifier(model, "bundles/mgca/configs/prompts.json", ["cardiomegaly", "effusion"])
        print(classify(next(model.load_images(["1.png"]))))
    """

    positive: torch.Tensor
    negative: torch.Tensor

    def __init__(
        self,
        model: PretrainedModel,
        prompts: str | os.PathLike | Mapping[str, Prompts],
        classes: Sequence[str] | None = None,
        temperature: float = 0.07,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"The temperature must be positive, got {temperature}.")
        place = "the prompts" if isinstance(prompts, Mapping) else str(prompts)
        known = prompts if isinstance(prompts, Mapping) else read_prompts(prompts)
        self.classes = tuple(known if classes is None else classes)
        self.temperature = temperature
        self.embedder = model.network.image_embedder()
        positive, negative = _ensembles(model, place, known, self.classes)
        self.register_buffer("positive", positive)
        self.register_buffer("negative", negative)
        self.eval()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) images -> (B, F) probabilities, of the classes in their order."""
        return self.classify(self.embedder(image))

    def classify(self, embedding: torch.Tensor) -> torch.Tensor:
        """
        Args:
            embedding: (B, D) unit vectors of images, as of :meth:`PretrainedModel.embed_images`.

        Returns:
            (B, F) probabilities.
        """
        # no autocast: half precision would make equal what is not
        with torch.autocast(embedding.device.type, enabled=False):
            difference = embedding.to(self.positive) @ (self.positive - self.negative).T
            return (difference / self.temperature).sigmoid()  # the softmax of two


def _ensembles(
    model: PretrainedModel, place: str, prompts: Mapping[str, Prompts], classes: Sequence[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(F, D) unit vectors of both sides of all classes."""
    texts: list[tuple[str, str, str]] = []  # finding, side, text
    for name in classes:
        found = _find(prompts, name)
        if found is None:
            raise DataError(
                f"{place}: the class '{name}' has no prompts; there are some for {', '.join(prompts)}. Write them "
                "under this name, add it to a finding's 'names', or leave the class out with --classes."
            )
        texts += [(name, side, text) for side in SIDES for text in getattr(found, side)]
    try:
        embeddings = model.embed_texts([text for _, _, text in texts]).float()
    except DataError:
        for name, side, text in texts:
            try:
                model.read_text(text)
            except DataError as error:
                raise DataError(f"{place}: '{side}' of finding '{name}': {error}") from None
        raise
    groups = {(name, side): [i for i, t in enumerate(texts) if t[:2] == (name, side)] for name, side, _ in texts}
    means = [torch.stack([embeddings[groups[name, side]].mean(0) for name in classes]) for side in SIDES]
    return F.normalize(means[0], dim=1), F.normalize(means[1], dim=1)
