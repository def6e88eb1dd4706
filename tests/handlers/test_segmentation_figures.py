# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The figures of evaluate_segmentation.json, as MONAI computes them, where a mask or a prediction is empty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from monai_mgca.handlers import RunSummary

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "mgca" / "configs"
NOTHING = torch.zeros(1, 20, 30)
BOX = NOTHING.clone()
BOX[0, 5:15, 4:12] = 1
MOVED = BOX.roll(2, dims=2)  # six of its eight columns overlap


def evaluator(spatial_dims=2):
    """An engine with the metrics of the evaluation's config, to be run over pairs of a prediction and a mask."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}_segmentation.json") for name in ("train", "evaluate")])
    # which of an evaluation are those of its weights
    parser.update({"spatial_dims": spatial_dims, "classes": ["lung"], "surface_tolerance": 3.5})
    engine = Engine(lambda engine, pair: [{"pred": pair[0], "label": pair[1]}])
    for key in ("key_metric", "additional_metrics"):
        for name, metric in parser.get_parsed_content(f"validate#{key}").items():
            metric.attach(engine, name)
    return engine


def figures(*pairs):
    """Dice, IoU and Hausdorff distance of the pairs."""
    engine = evaluator()
    engine.run(pairs)
    names = ("val_mean_dice", "val_mean_iou", "val_hausdorff_95")
    return [float(engine.state.metrics[name]) for name in names]


NAN = float("nan")
WHOLE = [12 / 16, 6 / 10, 2.0]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(BOX, BOX)], [1, 1, 0]),
        ([(MOVED, BOX)], WHOLE),
        ([(MOVED, BOX), (BOX, NOTHING)], WHOLE),  # what is found where nothing is does not count
        ([(MOVED, BOX), (NOTHING, NOTHING)], WHOLE),
        ([(MOVED, BOX), (NOTHING, BOX)], [WHOLE[0] / 2, WHOLE[1] / 2, WHOLE[2]]),  # missed: 0, and no distance
        # where nothing is defined, a distance of 0 would be the best, and a Dice of 0 the worst
        ([(NOTHING, BOX)], [0, 0, NAN]),
        ([(NOTHING, BOX), (NOTHING, NOTHING)], [0, 0, NAN]),
        ([(BOX, NOTHING), (NOTHING, NOTHING)], [NAN, NAN, NAN]),
    ],
)
def test_empty_masks_and_predictions(pairs, expected):
    assert figures(*pairs) == pytest.approx(expected, nan_ok=True)


def test_what_is_undefined_is_counted_in_the_summary(caplog):
    pairs = [(MOVED, BOX), (NOTHING, BOX), (NOTHING, NOTHING)]
    engine = evaluator()
    RunSummary({}).attach(engine)
    with caplog.at_level("INFO"):
        engine.run(pairs)
    message = next(message for message in caplog.messages if message.startswith("Finished epoch"))
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in message.splitlines() if "val_" in line}
    assert lines["val_mean_dice"] == "0.3750 (0.0000 to 0.7500)  (undefined for 1 of 3 masks)"
    assert lines["val_hausdorff_95"] == "2.0000 (2.0000 to 2.0000)  (undefined for 2 of 3 masks)"


def test_distances_of_volumes_are_in_millimeters():
    """Each volume by its own voxels; of radiographs there is no surface, and pixels count."""

    def volume(moved, sizes):
        box = torch.zeros(1, 16, 16, 16)
        box[0, 4 + moved[0] : 10 + moved[0], 4 + moved[1] : 10 + moved[1], 4 + moved[2] : 10 + moved[2]] = 1
        return MetaTensor(box, affine=torch.diag(torch.tensor([*sizes, 1.0], dtype=torch.float64)))

    truth = volume((0, 0, 0), (2.0, 3.0, 5.0))
    engine = evaluator(spatial_dims=3)
    assert "val_surface_dice" not in evaluator().state.metrics
    for moved, distance in [((1, 0, 0), 2), ((0, 1, 0), 3), ((0, 0, 1), 5), ((0, 0, 2), 10)]:
        engine.run([(volume(moved, (2.0, 3.0, 5.0)), truth)])
        assert engine.state.metrics["val_hausdorff_95"] == pytest.approx(distance)
        assert engine.state.metrics["val_mean_dice"] == pytest.approx((6 - sum(moved)) / 6)
        # 3.5 mm are allowed: all of a surface that moved by less is within
        within = engine.state.metrics["val_surface_dice"]
        assert within == 1 if distance < 3.5 else 0.3 < within < 0.9
    other = volume((0, 0, 1), (2.0, 3.0, 1.0))
    engine.run([(volume((0, 0, 1), (2.0, 3.0, 5.0)), truth), (other, volume((0, 0, 0), (2.0, 3.0, 1.0)))])
    assert engine.state.metrics["val_hausdorff_95"] == pytest.approx((5 + 1) / 2)


def test_intervals_are_of_the_images():
    """Dice 1, 3/4, 0 and one that is undefined: the interval is that of the mean of three images, in any order."""
    pairs = [(BOX, BOX), (MOVED, BOX), (NOTHING, BOX), (NOTHING, NOTHING)]
    found = []
    for order in (pairs, pairs[::-1]):
        engine = evaluator()
        engine.run(order)
        found.append([engine.state.metrics[f"val_mean_dice{end}"] for end in ("", "_low", "_high")])
    assert found[0] == found[1]
    drawn = np.random.default_rng(0).integers(3, size=(1000, 3))
    expected = [7 / 12, *np.percentile(np.array([0, 0.75, 1])[drawn].mean(1), (2.5, 97.5))]
    assert found[0] == pytest.approx(expected)
    assert engine.state.metrics["val_hausdorff_95_low"] == 0


def test_no_defined_image_has_no_interval():
    engine = evaluator()
    engine.run([(NOTHING, NOTHING)])
    assert np.isnan([engine.state.metrics[f"val_mean_dice{end}"] for end in ("", "_low", "_high")]).all()
