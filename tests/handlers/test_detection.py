# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The detector's parts in MONAI's engines: batches, loss, metric, the JSON file and the overlays."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.data.utils import no_collation
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.transforms import Compose, Resized, SpatialPadd
from PIL import Image

from monai_mgca.engines import PerImage, PrepareBatchBoxes
from monai_mgca.handlers import DetectionHandler, DetectionSaver, OverlaySaver
from monai_mgca.losses import DetectionLoss
from monai_mgca.networks import create_detector
from monai_mgca.transforms import LoadRadiographd, MapBoxesd, RememberAffined, RestoreBoxesd
from monai_mgca.visualize.overlay import _COLORS, draw_overlay

# images are not square; the second has no box
ITEMS = [("a", (60, 40), [[10, 6, 30, 36]], [1]), ("sub/b", (40, 60), [], []), ("c", (60, 40), [[0, 0, 8, 8]], [0])]


class Oracle(torch.nn.Module):
    """Finds what it is given, once for each image in turn."""

    def __init__(self, answers):
        super().__init__()
        self.answers = list(answers)

    def forward(self, images, targets=None):
        return [self.answers.pop(0) for _ in images]


@pytest.fixture
def items(tmp_path):
    made = []
    for name, size, boxes, labels in ITEMS:
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, 100).save(path)
        made.append({"image": str(path), "boxes": boxes, "box_labels": labels})
    return made


def loader(items, size=64):
    transform = [
        LoadRadiographd("image"),
        RememberAffined("image"),
        Resized("image", size, size_mode="longest", mode="area"),
        SpatialPadd("image", (size, size)),
        MapBoxesd("boxes", "image", "box_labels", allow_missing_keys=True),
    ]
    return DataLoader(Dataset(items, Compose(transform)), batch_size=2, collate_fn=no_collation)


def make_evaluator(network, data, **kwargs):
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=data,
        network=network,
        prepare_batch=PrepareBatchBoxes(),
        decollate=False,
        **kwargs,
    )


def truth(data):
    """What a perfect detector of the items finds."""
    for batch in data:
        for item in batch:
            scores = torch.full((len(item["boxes"]),), 0.9)
            yield {"boxes": item["boxes"], "labels": item["box_labels"], "labels_scores": scores}


@pytest.mark.parametrize("encoder", ["resnet_compact", "vit_compact"])
def test_trains_and_evaluates(items, encoder):
    torch.manual_seed(0)
    detector, data = create_detector(encoder, 2, 64), loader(items)
    before = [p.clone() for p in detector.parameters()]
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=data,
        network=detector,
        optimizer=torch.optim.SGD(detector.parameters(), 0.1),
        loss_function=DetectionLoss(),
        prepare_batch=PrepareBatchBoxes(),
        decollate=False,
    )
    trainer.run()
    moved = [not torch.equal(old, new) for old, new in zip(before, detector.parameters(), strict=True)]
    assert sum(moved) > 0.9 * len(moved)
    evaluator = make_evaluator(detector, data, key_val_metric={"val_map_50": DetectionHandler(["x", "y"])})
    evaluator.run()
    assert 0 <= evaluator.state.metrics["val_map_50"] <= 1


def test_metric_of_a_perfect_detector(items):
    data = loader(items)
    evaluator = make_evaluator(
        Oracle(truth(data)), data, key_val_metric={"val_map_40_75": DetectionHandler(["x", "y"], key="map_40_75")}
    )
    evaluator.run()
    names = ("map_40_75", "map_50", "map_50_95", "map_50_x", "map_50_y", "froc", "froc_1_8", "froc_8")
    assert [evaluator.state.metrics[f"val_{name}"] for name in names] == [pytest.approx(1)] * len(names)


def test_results_are_in_pixels_of_the_files(items, tmp_path):
    data, folder = loader(items), tmp_path / "images"
    evaluator = make_evaluator(
        Oracle(truth(data)),
        loader([{"image": item["image"]} for item in items]),
        postprocessing=PerImage(RestoreBoxesd("boxes")),
        val_handlers=[
            DetectionSaver(tmp_path / "out" / "found.json", ["x", "y"], folder),
            OverlaySaver(tmp_path / "out", folder, ["x", "y"], box_key="boxes"),
        ],
    )
    evaluator.run()
    results = json.loads((tmp_path / "out" / "found.json").read_text())
    assert [(r["file_name"], r["image_id"], r["category_id"], r["category_name"]) for r in results] == [
        ("a.png", 0, 1, "y"),
        ("c.png", 2, 0, "x"),
    ]
    np.testing.assert_allclose([r["bbox"] for r in results], [[10, 6, 20, 30], [0, 0, 8, 8]], atol=0.01)
    assert results[0]["score"] == pytest.approx(0.9)
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert written == ["a_overlay.png", "c_overlay.png", "found.json", "sub/b_overlay.png"]
    with Image.open(tmp_path / "out" / "a_overlay.png") as picture:
        assert picture.size == (60, 40)
        assert picture.getpixel((10, 35)) == picture.getpixel((29, 20)) == _COLORS[1]
        assert picture.getpixel((9, 20)) == picture.getpixel((30, 20)) == (100, 100, 100)
    with Image.open(tmp_path / "out" / "sub" / "b_overlay.png") as picture:
        assert set(picture.getdata()) == {(100, 100, 100)}


def test_saver_starts_again(items, tmp_path):
    data = loader(items)
    saver = DetectionSaver(tmp_path / "found.json", ["x", "y"], tmp_path)
    for _ in range(2):
        make_evaluator(
            Oracle(truth(data)), data, postprocessing=PerImage(lambda item: item), val_handlers=[saver]
        ).run()
    assert len(json.loads((tmp_path / "found.json").read_text())) == 2


def test_masks_are_drawn_where_they_are():
    mask = torch.zeros(1, 20, 30)
    mask[0, 5:15, 10:20] = 1
    picture = np.asarray(draw_overlay(torch.full((20, 30), 100.0), mask))
    assert (picture[5, 10] == _COLORS[0]).all()
    assert (picture[10, 15] == (0.75 * 100 + 0.25 * np.array(_COLORS[0])).astype(int)).all()
    assert (picture[4, 10] == 100).all()
    with pytest.raises(ValueError, match="mask is"):
        draw_overlay(torch.zeros(20, 30), torch.zeros(1, 30, 20))


def test_low_scores_are_not_drawn(items, tmp_path):
    found = {
        "boxes": torch.tensor([[5.0, 5, 20, 20]]),
        "labels": torch.tensor([0]),
        "labels_scores": torch.tensor([0.2]),
    }
    evaluator = make_evaluator(
        Oracle([found]),
        loader(items[:1]),
        postprocessing=PerImage(RestoreBoxesd("boxes")),
        val_handlers=[OverlaySaver(tmp_path / "o", tmp_path / "images", ["x"], box_key="boxes", min_score=0.3)],
    )
    evaluator.run()
    with Image.open(tmp_path / "o" / "a_overlay.png") as picture:
        assert set(picture.getdata()) == {(100, 100, 100)}


def test_collated_batches_are_refused(items):
    with pytest.raises(ValueError, match="no_collation"):
        PrepareBatchBoxes()({"image": torch.zeros(2, 1, 8, 8)})


def test_loss_weighs_and_refuses_predictions():
    losses = {"classification": torch.tensor(1.0), "box_regression": torch.tensor(2.0)}
    assert DetectionLoss(2.0, 0.5)(losses, None).item() == 3
    with pytest.raises(ValueError, match="training mode"):
        DetectionLoss()([{"boxes": torch.zeros(0, 4)}], None)
