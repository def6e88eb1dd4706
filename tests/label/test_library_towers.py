# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""MONAI Label serves and trains networks with other libraries' image encoders."""

from __future__ import annotations

import pytest
import torch

from monai_mgca.io.geometry import read_geometry, read_label_map, write_label_map
from monai_mgca.label.infers.grounding_infer import PhraseInfer
from monai_mgca.label.infers.task_infers import ClassificationInfer, DetectionInfer, SegmentationInfer
from monai_mgca.label.label_settings import LabelSettings
from monai_mgca.label.store.radiograph_datastore import RadiographDatastore
from monai_mgca.label.trainers import BundleTrain
from monai_mgca.weights import read_model_settings

pytest.importorskip("timm")

SIZE = (93, 71)
TOWERS = {
    "swin": ("timm:swin_tiny_patch4_window7_224(embed_dim=12, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 2))", 64),
    "dinov2": ("timm:vit_small_patch14_reg4_dinov2(embed_dim=32, depth=2, num_heads=2)", 224),
}


@pytest.fixture(scope="module", params=TOWERS)
def bundle(request, make_label_bundle):
    """A bundle whose networks all have the tower."""
    return make_label_bundle(*TOWERS[request.param])


@pytest.fixture
def settings(bundle, tmp_path):
    (tmp_path / "app").mkdir()
    return LabelSettings(tmp_path / "app", bundle)


@pytest.fixture
def studies(tmp_path, save_image):
    """Six radiographs, four of them with a mask."""
    folder = tmp_path / "studies"
    folder.mkdir()
    for number in range(6):
        save_image(folder / f"i{number}.png", SIZE)
    store = RadiographDatastore(folder)
    for number in range(4):
        geometry = read_geometry(store.get_image_uri(f"i{number}"))
        mask = torch.zeros(geometry.size[::-1], dtype=torch.uint8).numpy()
        mask[10:50, 5:40] = 1
        write_label_map(mask, geometry, tmp_path / "label.nrrd")
        store.save_label(f"i{number}", str(tmp_path / "label.nrrd"), "final", {})
    return store


def test_answers(settings, studies):
    """Masks, boxes, probabilities and heat maps, in the image's own size."""
    image = {"image": studies.get_image_uri("i5")}
    mask = read_label_map(SegmentationInfer(settings)(dict(image))[0])
    assert mask.shape == SIZE[::-1]
    assert 0 < mask.mean() < 1
    _, boxes = DetectionInfer(settings)(dict(image))
    _, classes = ClassificationInfer(settings)(dict(image))
    assert boxes
    assert classes
    for method in ("attribution", "token"):
        request = {**image, "text": "left effusion", "method": method, "device": "cpu"}
        file, _ = PhraseInfer(settings, lambda: iter([studies.get_image_uri("i0")]))(request)
        assert read_label_map(file).shape == SIZE[::-1]


def test_learns(settings, studies):
    """From saved masks, beginning with what is served; the new weights are served."""
    options = {"max_epochs": 1, "val_split": 0.3, "batch_size": 2, "device": "cpu", "pretrained": False}
    stats = BundleTrain(settings, "segmentation")(options, studies)
    assert stats["new_weights"]
    weights = settings.weights("segmentation")
    assert weights.is_relative_to(settings.app_dir)
    assert read_model_settings(weights)["image_encoder"].startswith("timm:")
    assert SegmentationInfer(settings)({"image": studies.get_image_uri("i5")})
