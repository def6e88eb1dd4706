# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from monai_mgca.transforms import ResolveUncertainLabels, ResolveUncertainLabelsd
from monai_mgca.utils import DataError

NAN = float("nan")
CLASSES = ["edema", "effusion", "nodule", "mass"]


def equal(found, expected):
    expected = torch.tensor(expected)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, equal_nan=True)


@pytest.mark.parametrize(("policy", "value"), [("ignore", NAN), ("zeros", 0.0), ("ones", 1.0)])
def test_policies(policy, value):
    equal(ResolveUncertainLabels(policy)([1, 0, -1, None]), [1.0, 0.0, value, NAN])


def test_a_policy_for_each_class():
    resolve = ResolveUncertainLabels({"edema": "ones", "nodule": "zeros"}, CLASSES)
    equal(resolve([-1, -1, -1, 1]), [1.0, NAN, 0.0, 1.0])
    equal(resolve([0, 1, None, -1]), [0.0, 1.0, NAN, NAN])


def test_the_dictionary_version_does_the_same():
    data = {"label": [1, -1], "other": 3}
    result = ResolveUncertainLabelsd("label", "zeros")(data)
    equal(result["label"], [1.0, 0.0])
    assert result["other"] == 3
    assert data["label"] == [1, -1], "the input is not changed"
    assert ResolveUncertainLabelsd("label", allow_missing_keys=True)({"other": 3}) == {"other": 3}


class TestErrors:
    def test_policies(self):
        with pytest.raises(ValueError, match="zero"):
            ResolveUncertainLabels("zero")
        with pytest.raises(ValueError, match="mas;"):
            ResolveUncertainLabels({"mas": "ones"}, CLASSES)

    def test_values_and_lengths(self):
        with pytest.raises(DataError, match="label 2"):
            ResolveUncertainLabels()([1, 2])
        with pytest.raises(DataError, match="3 labels for 4 classes"):
            ResolveUncertainLabels(classes=CLASSES)([1, 0, 0])

    @pytest.mark.parametrize("labels", [[1, 1], [0, 0], [1, None], [1, -1]])
    def test_not_exactly_one_class(self, labels):
        with pytest.raises(DataError, match="exactly one"):
            ResolveUncertainLabels(exclusive=True)(labels)
        equal(ResolveUncertainLabels(exclusive=True)([0, 1]), [0.0, 1.0])

    @pytest.mark.parametrize("image", ["a.png", MetaTensor(torch.zeros(1), meta={"filename_or_obj": "a.png"})])
    def test_the_image_is_named(self, image):
        with pytest.raises(DataError, match=r"^a\.png: the label 3"):
            ResolveUncertainLabelsd("label")({"image": image, "label": [3]})
