# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A classifier's metric, masked loss and table in MONAI's engines."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.transforms import Activationsd, Compose
from PIL import Image

from monai_mgca.handlers import ClassificationHandler, TableSaver
from monai_mgca.losses import MaskedBCEWithLogitsLoss
from monai_mgca.metrics import compute_classification
from monai_mgca.transforms import LoadRadiographd, ResolveUncertainLabelsd

CLASSES = ["dark", "very bright"]
# gray values; the last label is uncertain, one is unknown
ITEMS = [(10, [1, 0]), (60, [1, 0]), (120, [0, 0]), (140, [None, 1]), (250, [0, 1]), (40, [0, -1])]


class Brightness(torch.nn.Module):
    """Scores an image by its mean; it learns a weight and a bias a class."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(1, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[-2.0], [3.0]]))

    def forward(self, image):
        return self.head(image.flatten(1).mean(1, keepdim=True) / 255)


@pytest.fixture
def data(tmp_path):
    items = []
    for i, (gray, labels) in enumerate(ITEMS):
        path = tmp_path / "images" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (8, 6), gray).save(path)
        items.append({"image": str(path), "label": labels})
    transform = Compose([LoadRadiographd("image"), ResolveUncertainLabelsd("label", classes=CLASSES)])
    return DataLoader(Dataset(items, transform), batch_size=4)


def make_evaluator(data, network=None, **kwargs):
    torch.manual_seed(0)
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=data,
        network=network or Brightness(),
        postprocessing=Activationsd("pred", sigmoid=True),
        **kwargs,
    )


def test_figures_stand_in_the_engines_state(data):
    handler = ClassificationHandler(CLASSES, bootstrap=30, seed=5)
    evaluator = make_evaluator(data, key_val_metric={"val_mean_auroc": handler})
    evaluator.run()
    grays = np.array([gray for gray, _ in ITEMS])
    labels = np.array([[np.nan if v in (None, -1) else v for v in labels] for _, labels in ITEMS])
    expected = compute_classification(np.stack((-grays, grays), 1), labels, CLASSES, bootstrap=30, seed=5)
    metrics = evaluator.state.metrics
    assert metrics == {f"val_{name}": pytest.approx(value, nan_ok=True) for name, value in expected.items()}
    assert metrics["val_mean_auroc"] == pytest.approx((5 / 6 + 1) / 2)
    assert metrics["val_auroc_very_bright"] == 1
    assert metrics["val_auroc_dark_low"] <= metrics["val_auroc_dark"] <= metrics["val_auroc_dark_high"]


def test_other_keys(data):
    evaluator = make_evaluator(data, key_val_metric={"ap": ClassificationHandler(CLASSES, key="mean_ap", prefix="x_")})
    evaluator.run()
    assert {"ap", "x_mean_auroc"} <= set(evaluator.state.metrics)
    assert "x_mean_ap" not in evaluator.state.metrics
    with pytest.raises(ValueError, match="accuracy"):
        ClassificationHandler(CLASSES, key="accuracy")
    assert ClassificationHandler(CLASSES, "multiclass", key="accuracy").key == "accuracy"


def test_unknown_labels_do_not_train(data):
    network = Brightness()
    optimizer = torch.optim.SGD(network.parameters(), 0.5)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=3,
        train_data_loader=data,
        network=network,
        optimizer=optimizer,
        loss_function=MaskedBCEWithLogitsLoss(),
    )
    before = [p.clone() for p in network.parameters()]
    trainer.run()
    after = list(network.parameters())
    assert all(torch.isfinite(p).all() for p in after)
    assert all(not torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_table_has_a_row_an_image(data, tmp_path):
    path = tmp_path / "out" / "table.csv"
    network = Brightness()
    evaluator = make_evaluator(data, network, val_handlers=[TableSaver(path, CLASSES)])
    for _ in range(2):  # a second run starts again from nothing
        evaluator.run()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", *CLASSES]
    assert [row["image"] for row in rows] == [str(tmp_path / "images" / f"{i}.png") for i in range(len(ITEMS))]
    images = torch.tensor([gray for gray, _ in ITEMS], dtype=torch.float32)[:, None, None, None]
    expected = torch.sigmoid(network(images)).detach()
    np.testing.assert_allclose([[float(row[name]) for name in CLASSES] for row in rows], expected, atol=1e-6)
    assert [p.name for p in path.parent.iterdir()] == ["table.csv"]
    lowest = float(rows[0][CLASSES[1]])
    saver = TableSaver(path, CLASSES, {"other": 0.5, CLASSES[1]: lowest})
    make_evaluator(data, network, val_handlers=[saver]).run()
    with path.open(newline="") as file:
        decided = list(csv.DictReader(file))
    assert list(decided[0]) == ["image", *CLASSES, f"{CLASSES[1]}_present"]
    for row, plain in zip(decided, rows, strict=True):
        assert {key: row[key] for key in plain} == plain
        if row[CLASSES[1]] != rows[0][CLASSES[1]]:  # that one may be rounded up
            assert row[f"{CLASSES[1]}_present"] == str(int(float(row[CLASSES[1]]) > lowest))
