# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
import torch
from monai.metrics import compute_froc_curve_data, compute_froc_score

from monai_mgca.metrics import DetectionMetric
from monai_mgca.metrics.detection import _IOUS, compute_detection
from monai_mgca.metrics.froc import FROC_RATES

NAMES = ("map_50", "map_40_75", "map_50_95", "froc")
EMPTY = (np.zeros((0, 4)), [], [])


def as_found(boxes, labels, scores=None):
    found = {
        "boxes": torch.as_tensor(np.asarray(boxes), dtype=torch.float64).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }
    return found if scores is None else {**found, "labels_scores": torch.tensor(scores, dtype=torch.float64)}


def figures(found, true, classes=("a", "b", "c")):
    metric = DetectionMetric(classes)
    for one, other in zip(found, true, strict=True):  # an image a batch
        metric([as_found(*one)], [as_found(*other)])
    return metric.aggregate()


def random_set(seed):
    """Images of boxes, some of none, and predictions: moved boxes, wrong classes, boxes from nowhere, equal scores."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(rng.integers(1, 8)):
        count = rng.integers(0, 5)
        corner = rng.integers(0, 60, (count, 2))
        true = np.concatenate((corner, corner + rng.integers(4, 40, (count, 2))), axis=1).astype(float)
        labels = rng.integers(0, rng.integers(1, 4), count)
        moved = np.concatenate((true, true)) + rng.normal(0, 3, (2 * count, 4)) * rng.integers(0, 2)
        false = rng.integers(0, 60, (rng.integers(0, 6), 2))
        found = np.concatenate((moved, np.concatenate((false, false + rng.integers(4, 40, false.shape)), axis=1)))
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        found_labels = np.concatenate((labels, labels, rng.integers(0, 3, len(false))))
        wrong = rng.random(len(found)) < 0.2
        found_labels[wrong] = rng.integers(0, 3, wrong.sum())
        scores = rng.integers(1, 100, len(found)) / 100
        kept = rng.random(len(found)) < rng.choice([0.0, 0.7, 1.0])
        images.append(((found[kept], found_labels[kept].tolist(), scores[kept].tolist()), (true, labels.tolist())))
    return images


def by_pycocotools(images):
    coco_module = pytest.importorskip("pycocotools.coco", reason="pycocotools, of the test extra, is not installed")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    annotations, results = [], []
    for index, ((boxes, labels, scores), (true, true_labels)) in enumerate(images, start=1):
        for x0, y0, x1, y1, label in np.column_stack((true, true_labels)):
            box = {"image_id": index, "category_id": int(label) + 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}
            annotations.append({"id": len(annotations) + 1, "iscrowd": 0, "area": (x1 - x0) * (y1 - y0), **box})
        for x0, y0, x1, y1, label, score in np.column_stack((boxes, labels, scores)):
            box = {"image_id": index, "category_id": int(label) + 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}
            results.append({**box, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_module.COCO()
        ids = [{"id": index + 1} for index in range(len(images))]
        truth.dataset = {"images": ids, "annotations": annotations, "categories": [{"id": i} for i in (1, 2, 3)]}
        truth.createIndex()
        predictions = coco_module.COCO()
        predictions.dataset = {**truth.dataset, "annotations": []}
        predictions.createIndex()
        if results:  # pycocotools cannot load none
            predictions = truth.loadRes(results)
        evaluator = evaluation.COCOeval(truth, predictions, "bbox")
        evaluator.params.iouThrs = _IOUS
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"][:, :, :, 0, 2]
    ranges = {"map_50": slice(2, 3), "map_40_75": slice(0, 8), "map_50_95": slice(2, 12)}
    return {name: precision[ious][precision[ious] > -1] for name, ious in ranges.items()}


def test_agrees_with_pycocotools_on_200_sets():
    compared = 0
    for seed in range(200):
        images = random_set(seed)
        expected = by_pycocotools(images)
        ours = figures(*zip(*images, strict=True))
        for name, values in expected.items():
            if len(values) == 0:  # no box in any image
                assert np.isnan(ours[name])
            else:
                assert ours[name] == pytest.approx(values.mean(), abs=1e-6), (seed, name)
                compared += 1
    assert compared > 500


TRUE = [([[0, 0, 10, 20], [30, 30, 50, 40]], [0, 2]), ([], []), ([[5, 5, 9, 9]], [0]), ([], [])]


def test_perfect_is_one_with_images_without_boxes():
    found = [(boxes, labels, [0.9] * len(labels)) for boxes, labels in TRUE]
    result = figures(found, TRUE)
    assert [result[name] for name in NAMES] == [pytest.approx(1)] * 4
    assert result["map_50_a"] == result["map_50_c"] == pytest.approx(1)
    assert "map_50_b" not in result  # has no box


def test_none_is_zero_with_images_without_boxes():
    for found in ([EMPTY] * 4, [([[60, 60, 70, 70]], [0], [0.9])] * 4):
        result = figures(found, TRUE)
        assert [result[name] for name in NAMES] == [0] * 4


def test_false_boxes_on_images_without_boxes_cost():
    right = [(boxes, labels, [0.5] * len(labels)) for boxes, labels in TRUE]
    wrong = [right[0], ([[0, 0, 9, 9]], [0], [0.9]), right[2], right[3]]
    result = figures(wrong, TRUE)
    assert result["map_50_a"] == pytest.approx(2 / 3)
    assert result["map_50_c"] == pytest.approx(1)


def test_without_any_box_there_is_no_figure():
    result = figures([EMPTY, ([[0, 0, 9, 9]], [0], [0.9])], [([], []), ([], [])])
    assert all(np.isnan(result[name]) for name in NAMES)


def test_froc_by_hand():
    # four images, two boxes; by falling score: false, right, false, false, right
    box, far = [0, 0, 10, 10], [50, 50, 60, 60]
    found = [
        ([far, box], [0, 0], [0.9, 0.8]),
        ([far, far], [0, 1], [0.7, 0.6]),
        ([box], [0], [0.5]),
        EMPTY,
    ]
    true = [([box], [0]), ([], []), ([box], [0]), ([], [])]
    result = figures(found, true)
    assert result["froc_1_4"] == pytest.approx(0.5)  # one false box in four images
    assert result["froc_1_2"] == pytest.approx(0.5)
    assert result["froc_1"] == result["froc_8"] == pytest.approx(1)
    assert result["froc_1_8"] == pytest.approx(0)


def test_froc_as_monai():
    rng = np.random.default_rng(0)
    scores = rng.permutation(300)[:200] / 300 + 0.01  # no two are equal, none is 0
    right = rng.random(200) < 0.4
    box, far = [0, 0, 10, 10], [50, 50, 60, 60]
    images = [np.array([[0, s, *(box if r else far)], [0, np.inf, *box]]) for s, r in zip(scores, right, strict=True)]
    ours = compute_detection(images, ["a"])
    # a further score, of 0, is the lowest one, which MONAI leaves out
    curve = compute_froc_curve_data(np.append(scores[~right], 0.0), scores[right], 200, 200)
    for name, rate in FROC_RATES.items():
        assert ours[f"froc_{name}"] == pytest.approx(compute_froc_score(*curve, (rate,)), abs=1e-6)


def test_batches_do_not_matter():
    found, true = zip(*random_set(3), strict=True)
    metric = DetectionMetric("abc")
    metric([as_found(*one) for one in found], [as_found(*one) for one in true])
    assert metric.aggregate() == pytest.approx(figures(found, true), nan_ok=True)


def test_bad_input():
    with pytest.raises(ValueError, match="no data"):
        DetectionMetric("a").aggregate()
    with pytest.raises(ValueError, match="every image"):
        DetectionMetric("a")([as_found(*EMPTY)], [])


class TestVolumes:
    """Boxes of six numbers: nnDetection's overlaps and LUNA16's hits."""

    def figures(self, found, true, classes="ab"):
        metric = DetectionMetric(classes, spatial_dims=3)
        for one, other in zip(found, true, strict=True):
            metric([as_volume(*one)], [as_volume(*other)])
        return metric.aggregate()

    def test_means_by_hand(self):
        # of 10 x 10 x 10: shifted by 4 along z, they share 6 of 14, 0.43
        true = [([[0, 0, 0, 10, 10, 10]], [0]), ([], [])]
        result = self.figures([([[0, 0, 4, 10, 10, 14]], [0], [0.9]), ([], [], [])], true)
        assert result["map_10"] == result["map_30"] == result["map_30_a"] == pytest.approx(1)
        assert result["map_50"] == 0
        assert result["map_10_50"] == pytest.approx(7 / 9)  # 0.10 to 0.40 of 0.10 to 0.50
        assert "map_30_b" not in result

    def test_froc_by_hand(self):
        """Four volumes, four nodules; by falling score: hit, false, double, hit, false, false, hit; one is missed."""
        ball, other, far = [0, 0, 0, 10, 10, 20], [40, 40, 40, 50, 50, 50], [80, 80, 80, 90, 90, 90]
        found = [
            ([ball, far, [1, 1, 1, 11, 11, 21]], [0, 0, 0], [0.9, 0.8, 0.75]),
            ([[38, 38, 38, 48, 48, 48], far], [0, 0], [0.7, 0.6]),
            ([far], [1], [0.5]),
            ([[0, 0, 9, 10, 10, 29]], [0], [0.4]),
        ]
        true = [([ball], [0]), ([other], [0]), ([], []), ([ball, other], [0, 0])]
        result = self.figures(found, true)
        # by the scores 0.9, 0.8, 0.7, 0.6, 0.5, 0.4: (false a volume, found) = (0, 1/4), (1/4, 1/4), (1/4, 2/4),
        # (2/4, 2/4), (3/4, 2/4), (3/4, 3/4)
        expected = {"1_8": 1 / 4, "1_4": 1 / 2, "1_2": 1 / 2, "1": 3 / 4, "2": 3 / 4, "4": 3 / 4, "8": 3 / 4}
        assert {name: result[f"froc_{name}"] for name in expected} == pytest.approx(expected)
        assert result["froc"] == pytest.approx(np.mean(list(expected.values())))

    @pytest.mark.parametrize(("offset", "hit"), [((4.9, 0, 0), 1), ((5.1, 0, 0), 0), ((0, 0, 9), 1), ((4, 4, 4), 0)])
    def test_a_hit_is_a_center_within_the_radii(self, offset, hit):
        """Of 10 x 10 x 20; a corner of the box is outside of the nodule."""
        low = np.add(offset, (4, 4, 9))
        found = [([[*low, *(low + 2)]], [0], [0.9])]  # a small box around the center of the true one, moved
        result = self.figures(found, [([[0, 0, 0, 10, 10, 20]], [0])])
        assert result["froc_1_8"] == hit

    def test_hits_are_of_their_class(self):
        box = [0, 0, 0, 10, 10, 10]
        assert self.figures([([box], [1], [0.9])], [([box], [0])])["froc_8"] == 0

    def test_without_any_box_there_is_no_figure(self):
        result = self.figures([([[0, 0, 0, 9, 9, 9]], [0], [0.9])], [([], [])])
        assert np.isnan(result["map_30"])
        assert np.isnan(result["froc"])

    def test_froc_as_monai(self):
        """A prediction within each true box, or far from all: as MONAI's functions count the same scores."""
        rng = np.random.default_rng(0)
        scores = rng.permutation(300)[:120] / 300 + 0.01
        right = rng.random(120) < 0.4
        box, far = [0, 0, 0, 10, 10, 10], [50, 50, 50, 60, 60, 60]
        images = [
            np.array([[0, s, *(box if r else far)], [0, np.inf, *box]]) for s, r in zip(scores, right, strict=True)
        ]
        ours = compute_detection(images, ["a"], spatial_dims=3)
        curve = compute_froc_curve_data(np.append(scores[~right], 0.0), scores[right], 120, 120)
        for name, rate in FROC_RATES.items():
            assert ours[f"froc_{name}"] == pytest.approx(compute_froc_score(*curve, (rate,)), abs=1e-6)


def as_volume(boxes, labels, scores=None):
    found = {"boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 6), "labels": torch.tensor(labels).long()}
    return found if scores is None else {**found, "labels_scores": torch.tensor(scores, dtype=torch.float32)}
