# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A report, and the same with a sentence turned into its opposite or left out: the first must be the nearest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from monai_mgca.apps.image_text_model import PretrainedModel
from monai_mgca.metrics.bootstrap import mean_with_interval
from monai_mgca.text.opposites import opposite_sentence

__all__ = ["ReportVersion", "compare_versions", "report_versions"]


class ReportVersion(NamedTuple):
    """A report with one sentence changed."""

    row: int  # of the report
    opposite: str  # the report with the opposite of the sentence in its place
    omitted: str  # the report without the sentence; empty where it is the only one


def report_versions(reports: Sequence[Sequence[str]]) -> list[ReportVersion]:
    """The versions of reports, one for each sentence that has an opposite.

    Args:
        reports: each as its sentences, as :class:`monai_mgca.transforms.CleanReport` gives them.

    Example::

        print(report_versions([["no edema", "clear lungs"]])[0])
        # ReportVersion(row=0, opposite='edema. clear lungs', omitted='clear lungs')
    """
    versions = []
    for row, sentences in enumerate(reports):
        for place, sentence in enumerate(sentences):
            if (opposite := opposite_sentence(sentence)) is not None:
                before, after = [*sentences[:place]], [*sentences[place + 1 :]]
                texts = ". ".join([*before, opposite, *after]), ". ".join([*before, *after])
                versions.append(ReportVersion(row, *texts))
    return versions


def compare_versions(
    model: PretrainedModel, image: torch.Tensor, reports: Sequence[str], bootstrap: int = 0
) -> dict[str, float]:
    """In how many cases an image is nearer to its report than to a version of it.

    Args:
        model: a pretrained one.
        image: (N, D) unit vectors of the images.
        reports: N texts.
        bootstrap: number of replicates of the images.

    Returns:
        "report_over_opposite" and "report_over_omitted", 0 to 1, each the mean over the images of the part of their
        sentences, with intervals as :func:`monai_mgca.metrics.compute_negation`; and "sentences" and "opposites",
        how many there are and how many have an opposite.

    Example::

        model = load_pretrained("bundles/mgca/models/model_pretrain.pt")
        print(compare_versions(model, model.embed_images(["1.png"]), ["No effusion. The heart is enlarged."]))
    """
    sentences = [model.clean(report) for report in reports]
    versions = report_versions(sentences)
    counts = {"sentences": float(sum(map(len, sentences))), "opposites": float(len(versions))}
    own = (image * model.embed_reports(reports, description="reports")).sum(1)
    figures: dict[str, float] = {}
    for kind in ("opposite", "omitted"):
        there = [version for version in versions if getattr(version, kind)]
        if not there:
            continue
        rows = [version.row for version in there]
        texts = model.embed_reports([getattr(version, kind) for version in there], description=f"{kind} sentences")
        right = (own[rows] > (image[rows] * texts).sum(1)).numpy()
        of_images = np.array([right[np.array(rows) == row].mean() for row in sorted(set(rows))])
        figures |= mean_with_interval(of_images, f"report_over_{kind}", bootstrap)
    return figures | counts
