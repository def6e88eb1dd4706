# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Average precision and FROC of boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.apps.detection.metrics.matching import matching_batch
from monai.metrics import CumulativeIterationMetric

from monai_mgca.metrics.average_precision import PooledPredictions, average_precision, pool_predictions
from monai_mgca.metrics.bootstrap import with_intervals
from monai_mgca.metrics.froc import center_hits, compute_froc

__all__ = ["DetectionMetric", "compute_detection", "map_names"]


class _Protocol(NamedTuple):
    """Thresholds of overlap, the part of them that each mean is of, and of these the one that classes have too."""

    ious: np.ndarray
    means: dict[str, slice]
    main: str


# COCO's own (0.50:0.05:0.95), behind two that MGCA's protocol (0.40:0.05:0.75) has besides
_IOUS = np.concatenate(([0.4, 0.45], np.linspace(0.5, 0.95, 10)))
_RANGES = {"map_50": slice(2, 3), "map_40_75": slice(0, 8), "map_50_95": slice(2, 12)}
# of volumes nnDetection's (0.10:0.05:0.50): an edge that is a voxel off costs more there
_VOLUME_IOUS = np.linspace(0.1, 0.5, 9)
_VOLUME_RANGES = {"map_10": slice(0, 1), "map_30": slice(4, 5), "map_50": slice(8, 9), "map_10_50": slice(0, 9)}
_PROTOCOLS = {2: _Protocol(_IOUS, _RANGES, "map_50"), 3: _Protocol(_VOLUME_IOUS, _VOLUME_RANGES, "map_30")}

Found = Mapping[str, torch.Tensor]


class DetectionMetric(CumulativeIterationMetric):
    """COCO's mean average precision and FROC sensitivities over every image, also those without boxes or predictions.

    Boxes are matched by MONAI's ``matching_batch``. The precision is accumulated as by pycocotools, in double precision
    and over the classes that have boxes; MONAI's ``COCOMetric`` counts a class without boxes as -1 and measures recall
    in single precision, which moves it across COCO's recall thresholds. What every process has seen is gathered.

    Of volumes the overlaps are smaller ones, and FROC is that of LUNA16 (Setio et al. 2017): a box is found where a
    prediction's center is within its radii, the ellipsoid that fits into it. Of several the highest score counts, and
    the others neither for nor against.

    Args:
        classes: names of the classes; labels are indices into them.
        max_detections: of a class in an image, the boxes of the highest scores that count.
        spatial_dims: 2, or 3 for boxes of volumes.
        bootstrap: number of replicates of the images for confidence intervals; 0 gives none.
        seed: of the bootstrap.

    Example::

        metric = DetectionMetric(["nodule"])
        boxes, labels = torch.tensor([[10.0, 10, 30, 40]]), torch.tensor([0])
        true = {"boxes": boxes, "labels": labels}
        metric([{**true, "labels_scores": torch.tensor([0.9])}], [true])
        print(metric.aggregate()["map_50"])  # 1.0
    """

    def __init__(
        self,
        classes: Sequence[str],
        max_detections: int = 100,
        spatial_dims: int = 2,
        bootstrap: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.max_detections, self.spatial_dims = max_detections, spatial_dims
        self.bootstrap, self.seed = bootstrap, seed

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        raise ValueError("The metric takes lists of dictionaries, one for each image.")

    def _compute_list(self, y_pred: Sequence[Found], y: Sequence[Found] | None = None, **kwargs: Any) -> torch.Tensor:  # type: ignore[override]
        """
        Args:
            y_pred: for each image "boxes" (N, 4), of volumes (N, 6), "labels" (N,) and "labels_scores" (N,).
            y: for each image "boxes" (M, 4), of volumes (M, 6), and "labels" (M,).
            kwargs: none are used.

        Returns:
            Rows of label, score, box. Each image begins with a row of label -1, because a buffer cannot hold an image
            of no rows; the score of true boxes is infinite.
        """
        if y is None or len(y_pred) != len(y):
            raise ValueError("The true boxes of every image are needed.")
        rows, ends = [], 2 * self.spatial_dims
        begin = torch.tensor([[-1.0] + [0.0] * (1 + ends)], dtype=torch.float64)
        for found, true in zip(y_pred, y, strict=True):
            rows.append(begin.to(found["boxes"].device))
            rows.append(_rows(true, torch.full_like(true["labels"], torch.inf, dtype=torch.float64), ends))
            rows.append(_rows(found, found["labels_scores"], ends))
        return torch.cat(rows)

    def aggregate(self) -> dict[str, float]:
        """
        Returns:
            "map_50", "map_40_75" and "map_50_95": means over the classes that have boxes, and over the thresholds of
            overlap; of volumes "map_10", "map_30", "map_50" and "map_10_50". "map_50_NAME", of volumes "map_30_NAME":
            of each class that has boxes. "froc_RATE": part of the true boxes found (at an overlap of 0.5, of volumes by
            their centers) where there are RATE = 1_8, 1_4, 1_2, 1, 2, 4, 8 false ones an image; "froc", their mean. All
            are nan where there is no box at all. With a bootstrap each name also with "_low" and "_high", the 2.5 and
            97.5 percentiles over the replicates.

        Raises:
            ValueError: when the metric has seen no data.
        """
        buffer = self.get_buffer()
        if buffer is None:
            raise ValueError("The metric has seen no data: call it before aggregate().")
        rows = buffer.cpu().numpy()
        images = [image[1:] for image in np.split(rows, np.flatnonzero(rows[:, 0] == -1))[1:]]
        order = sorted(range(len(images)), key=lambda i: images[i].tobytes()) if self.bootstrap else range(len(images))
        images = [images[i] for i in order]  # the draws are the same however many processes saw the images
        return compute_detection(
            images, self.classes, self.max_detections, self.spatial_dims, self.bootstrap, self.seed
        )


def map_names(spatial_dims: int = 2) -> tuple[str, ...]:
    """The means of :class:`DetectionMetric`, first the one that classes have too.

    Args:
        spatial_dims: 2, or 3 for boxes of volumes.

    Example::

        print(map_names(3))  # ('map_30', 'map_10', 'map_50', 'map_10_50')
    """
    protocol = _PROTOCOLS[spatial_dims]
    return tuple(sorted(protocol.means, key=lambda name: name != protocol.main))


def _rows(found: Found, scores: torch.Tensor, ends: int) -> torch.Tensor:
    columns = (found["labels"].double().reshape(-1, 1), scores.double().reshape(-1, 1))
    return torch.cat((*columns, found["boxes"].double().reshape(-1, ends)), dim=1).detach()


def compute_detection(
    images: Sequence[np.ndarray],
    classes: Sequence[str],
    max_detections: int = 100,
    spatial_dims: int = 2,
    bootstrap: int = 0,
    seed: int = 0,
) -> dict[str, float]:
    """The figures of :class:`DetectionMetric` for a whole set.

    Args:
        images: for each image rows of label, score, x0, y0, x1, y1, of volumes label, score, x0, y0, z0, x1, y1, z1,
            where true boxes have an infinite score.
        classes: names of the classes.
        max_detections: of a class in an image.
        spatial_dims: 2 or 3.
        bootstrap: number of replicates of the images; 0 gives no intervals.
        seed: of the bootstrap.

    Example::

        box = [10, 10, 30, 40]
        images = [np.array([[0, np.inf, *box], [0, 0.9, *box]]), np.zeros((0, 6))]
        print(compute_detection(images, ["nodule"])["froc_1"])
    """
    true = [image[np.isinf(image[:, 1])] for image in images]
    found = [image[~np.isinf(image[:, 1])] for image in images]
    ious, means, main = _PROTOCOLS[spatial_dims]
    matches = matching_batch(
        _iou,
        ious.tolist(),
        pred_boxes=[rows[:, 2:] for rows in found],
        pred_classes=[rows[:, 0].astype(int) for rows in found],
        pred_scores=[rows[:, 1] for rows in found],
        gt_boxes=[rows[:, 2:] for rows in true],
        gt_classes=[rows[:, 0].astype(int) for rows in true],
        max_detections=max_detections,
    )
    counts = np.array([np.bincount(rows[:, 0].astype(int), minlength=len(classes)) for rows in true])
    pools = [pool_predictions(matches, label, len(ious)) for label in range(len(classes))]
    if spatial_dims == 2:
        of_main = [PooledPredictions(pool.scores, pool.hits[means[main]], pool.images) for pool in pools]
    else:
        pairs = [center_hits(*rows, max_detections) for rows in zip(found, true, strict=True)]
        images_of = [np.full(len(scores), i) for i, (scores, _) in enumerate(pairs)]
        of_main = [PooledPredictions(s, hits[None], i) for (s, hits), i in zip(pairs, images_of, strict=True)]
    froc = PooledPredictions(*(np.concatenate(parts, axis=-1) for parts in zip(*of_main, strict=True)))

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        rows = [_figures(pools, froc, counts, drawn, classes, spatial_dims) for drawn in weights.astype(int)]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    return with_intervals(figures, len(images), bootstrap, seed)


def _figures(
    pools: Sequence[PooledPredictions],
    froc: PooledPredictions,
    counts: np.ndarray,
    times: np.ndarray,
    classes: Sequence[str],
    spatial_dims: int,
) -> dict[str, float]:
    """Each figure of the images that were drawn, from the true boxes of each image and class (N, C)."""
    ious, means, main = _PROTOCOLS[spatial_dims]
    totals, there = times @ counts, counts.any(0)
    precision = np.full((len(classes), len(ious)), np.nan)
    for label in np.flatnonzero(totals):
        precision[label] = average_precision(pools[label].drawn(times).hits, totals[label])
    known = precision[totals > 0] if totals.any() else precision[:1]
    figures = {name: float(known[:, of].mean()) for name, of in means.items()}
    for name, values in zip(np.array(classes)[there], precision[there], strict=True):
        figures[f"{main}_{name.replace(' ', '_')}"] = float(values[means[main]][0])
    counted = froc.drawn(times)
    return figures | compute_froc(counted.scores, counted.hits[0], totals.sum(), times.sum())


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, M) overlaps in double precision; MONAI's ``box_iou`` calculates in single precision."""
    (low_a, high_a), (low_b, high_b) = np.split(a, 2, axis=1), np.split(b, 2, axis=1)
    low, high = np.maximum(low_a[:, None], low_b[None]), np.minimum(high_a[:, None], high_b[None])
    inside = np.clip(high - low, 0, None).prod(-1)
    area_a, area_b = (high_a - low_a).prod(-1), (high_b - low_b).prod(-1)
    overlap: np.ndarray = inside / (area_a[:, None] + area_b[None] - inside)
    return overlap
