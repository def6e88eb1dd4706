# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Classification by texts alone: the similarity of an image to what is said if a finding is there or not."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from monai_mgca.apps.image_text_model import PretrainedModel
from monai_mgca.apps.zero_shot.prompts import SIDES, Prompts, find_prompts, number_of_texts, read_prompts
from monai_mgca.transforms import calibrate_all
from monai_mgca.utils import DataError

__all__ = ["ZeroShotClassifier"]

logger = logging.getLogger(__name__)


class ZeroShotClassifier(nn.Module):
    """Probabilities of findings in radiographs or volumes, from texts alone.

    An image's probability of a finding is the softmax of its similarities to what reports say with and without it,
    divided by the temperature of the pretraining: 0.5 is as near to the one as to the other. Each side is the mean of
    its texts' unit vectors, scaled to unit length. Parameters are those of the pretrained network; nothing is trained.
    Where ``mgca calibrate`` has fitted a finding's texts at this temperature, the probability is a frequency.

    Args:
        model: a pretrained model.
        prompts: a file as for :func:`read_prompts`, or what it gives.
        classes: names of the findings, in this order; all of the prompts by default.
        temperature: of the instance alignment in the pretraining.
        calibrated: use the model's calibration, where there is one. "thresholds" are those of the findings it has.

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
        calibrated: bool = True,
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
        sides = (find_prompts(known, name) for name in self.classes)
        self.texts = tuple(number_of_texts(found, temperature) for found in sides if found)
        fitted = (model.calibration or {}).get("findings", {}) if calibrated else {}
        of_texts = {numbers.get("texts"): numbers for numbers in fitted.values()}
        self.numbers = [of_texts.get(number) for number in self.texts]
        self.thresholds = {c: n["threshold"] for c, n in zip(self.classes, self.numbers, strict=True) if n}
        if fitted and len(self.thresholds) < len(self.classes):
            others = ", ".join(c for c in self.classes if c not in self.thresholds)
            logger.info(f"Not calibrated, or with other texts or at another temperature: {others}.")
        self.eval()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W[, D]) images -> (B, F) probabilities, of the classes in their order."""
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
            probabilities = (difference / self.temperature).sigmoid()  # the softmax of two
            return calibrate_all(probabilities, self.numbers)


def _ensembles(
    model: PretrainedModel, place: str, prompts: Mapping[str, Prompts], classes: Sequence[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(F, D) unit vectors of both sides of all classes."""
    texts: list[tuple[str, str, str]] = []  # finding, side, text
    for name in classes:
        found = find_prompts(prompts, name)
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
