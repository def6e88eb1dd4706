# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, ScaleIntensityd
from PIL import Image

from monai_mgca.transforms import compare_preprocessing, restore_preprocessing, trained_preprocessing
from monai_mgca.utils import CheckpointError

M, OURS = "monai.transforms.", "monai_mgca.transforms."
LOAD = {"_target_": OURS + "LoadRadiographd", "keys": "image"}


class Own(ScaleIntensityd):
    """A transform of a user's own module."""


def step(name, keys="image", **arguments):
    return {"_target_": f"monai.transforms.{name}", "keys": keys, **arguments}


DESCRIBE = "$monai_mgca.transforms.describe_preprocessing(@steps)"


def describe(steps, **values):
    """What a config's expression makes of the steps, as it comes out of a JSON file."""
    parser = ConfigParser({"imports": ["$import monai_mgca"], "steps": steps, "described": DESCRIBE, **values})
    made = parser.get_parsed_content("steps")
    return json.loads(json.dumps(parser.get_parsed_content("described"))), made


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(9, 200, (40, 30), dtype=np.uint8)).save(path)
    return str(path)


@pytest.mark.parametrize(
    "steps",
    [
        [step("ScaleIntensityRangePercentilesd", ["image"], lower=1, upper=99, b_min=0, b_max=1)],
        [step("NormalizeIntensityd", subtrahend="@mean", divisor="$2 * @mean")],
        [step("HistogramNormalized"), step("ResizeWithPadOrCropd", spatial_size="$[@size] * 2")],
        [step("Rotate90d"), step("GaussianSmoothd", sigma=2.0)],
        [step("Resized", ["image", "label"], spatial_size=16, size_mode="longest", mode=["area", "nearest-exact"])],
        [step("CastToTyped", ["image", "label"], dtype=["$torch.float16", "$torch.uint8"])],
        [step("CastToTyped", dtype="$np.int16")],
        [
            {"_target_": "Flipd", "keys": "image", "spatial_axis": 1},
            {"_target_": "ThresholdIntensityd", "keys": "image", "threshold": 50},
        ],
        [{"_target_": M + "Compose", "transforms": [step("ScaleIntensityd")]}],
    ],
)
def test_what_was_done_is_done_again(steps, image):
    """Bit for bit, through JSON; masks and boxes that are not there are not missed."""
    described, made = describe([LOAD, *steps], mean=100.0, size=12)
    restored = Compose(restore_preprocessing({"preprocessing": described}))({"image": image})["image"]
    item = Compose(made[:1])({"image": image})
    item["label"] = item["image"].clone()
    wanted = Compose(made[1:])(item)["image"]
    assert restored.dtype == wanted.dtype
    assert torch.equal(restored.as_tensor(), wanted.as_tensor())
    assert torch.equal(restored.affine, wanted.affine)  # what grounding and detection go back by


def test_other_steps_and_disabled_ones_stay_behind(image):
    described, _ = describe(
        [
            LOAD,
            step("CastToTyped", "label", dtype="$torch.float32"),
            {"_target_": M + "RepeatChanneld", "_disabled_": True, "keys": "image", "repeats": 3},
            {"_target_": M + "ScaleIntensityd", "_desc_": "to 0..1", "keys": "image"},
            step("SelectItemsd", ["image", "label"]),
        ]
    )
    assert [made["_target_"] for made in described] == [OURS + "LoadRadiographd", M + "ScaleIntensityd"]


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (step("Lambdad", func="$lambda x: x / 2"), "Lambdad"),
        (step("LoadImaged"), "LoadImaged"),
        (step("RandFlipd"), "random"),
        ("$monai.transforms.ScaleIntensityd('image')", "made by an expression"),
        (step("NormalizeIntensityd", subtrahend="$np.ones(3)"), "subtrahend .* ndarray"),
        (step("CropForegroundd", source_key="image", select_fn="$lambda x: x > 1"), "select_fn"),
        ({"_target_": M + "ScaleIntensity"}, "ScaleIntensity"),
        (step("CopyItemsd", "raw", names="image"), "CopyItemsd"),
        ({"_target_": "tests.transforms.test_preprocessing.Own", "keys": "image"}, "Own"),
    ],
)
def test_what_cannot_travel_is_reported_and_refused(own, reason, caplog):
    described, _ = describe([LOAD, own])
    assert re.search(reason, described["refused"])
    assert "cannot travel" in caplog.text
    with pytest.raises(CheckpointError, match=reason):
        restore_preprocessing({"preprocessing": described})


@pytest.mark.parametrize(
    "steps",
    [
        [{"_target_": "os.system", "command": "true"}],
        [{"_target_": "monai.transforms.LoadImaged", "keys": "image", "reader": "subprocess.Popen"}],
        [{"_target_": "monai.transforms.SaveImaged", "keys": "image"}],
        [{"_target_": "monai.transforms.Lambdad", "keys": "image", "func": "$print"}],
        [{"_target_": "monai.transforms.TorchVisiond", "keys": "image", "name": "Lambda"}],
        [{"_target_": "monai_mgca.transforms.SaveMaskd", "keys": "image", "output_dir": "x"}],
        [{"_target_": "monai_mgca.transforms.TokenizeReportd", "keys": "image", "tokenizer": "x"}],
        [{"_target_": "monai.transforms.ScaleIntensityd"}],
        [{"_target_": "monai.transforms.ScaleIntensityd", "keys": "image", "more": 1}],
        [{"_target_": "monai.transforms.CastToTyped", "keys": "image", "dtype": {"_dtype_": "torch.load"}}],
        [{"_target_": ["x"]}],
        ["x"],
        "x",
        [],
        {"_target_": "os.system"},
        7,
    ],
)
def test_settings_from_anyone_are_data(steps):
    with pytest.raises(CheckpointError, match="preprocessing in the settings"):
        restore_preprocessing({"preprocessing": steps})


def test_expressions_are_no_code(image):
    """What begins like an expression is a text, which no such argument takes."""
    with pytest.raises(Exception, match="applying transform"):  # noqa: PT012
        steps = [LOAD, step("ScaleIntensityd", minv="$__import__('os').abort()")]
        Compose(restore_preprocessing({"preprocessing": steps}))({"image": image})


def test_only_steps_that_set_values_are_compared(caplog):
    def comparison(*steps, **pretrained):
        caplog.clear()
        settings = pretrained or {"preprocessing": describe([LOAD, step("Resized", spatial_size=9), *steps])[0]}
        compare_preprocessing(settings, describe([LOAD, step("ScaleIntensityd", minv=-1.0)])[0])
        return caplog.text

    assert comparison(step("ScaleIntensityd", minv=-1.0), step("CenterSpatialCropd", roi_size=7)) == ""
    assert compare_preprocessing({}, []) is None
    assert caplog.text == ""
    other = "LoadRadiographd(), ScaleIntensityd(minv 0.0); here: LoadRadiographd(), ScaleIntensityd(minv -1.0)"
    assert other in comparison(step("ScaleIntensityd", minv=0.0))
    assert "could not travel with the weights (Lambdad)" in comparison(preprocessing={"refused": "Lambdad"})


def test_an_evaluation_keeps_its_own_steps_for_all_else():
    _, default = describe([LOAD, step("CastToTyped", "label", dtype="$torch.uint8")])
    assert trained_preprocessing({}, default) == default
    steps = trained_preprocessing({"preprocessing": [step("ScaleIntensityd")]}, default)
    assert [type(made).__name__ for made in steps] == ["ScaleIntensityd", "CastToTyped"]
