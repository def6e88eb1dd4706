# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from monai_mgca.engines import PrepareBatchReport


def make_batch(**more):
    ids = torch.tensor([[2, 5, 3, 0], [2, 6, 7, 3]])
    image = MetaTensor(torch.rand(2, 1, 8, 8), meta={"filename_or_obj": "a.png"})
    return {"image": image, "input_ids": ids, "attention_mask": (ids > 0).long(), "word_ids": ids - 5, **more}


def test_image_target_and_arguments():
    batch = make_batch()
    image, target, args, kwargs = PrepareBatchReport()(batch, device="cpu")
    assert type(image) is torch.Tensor
    assert image.equal(batch["image"].as_tensor())
    assert target is kwargs["input_ids"]
    assert args == ()
    assert kwargs.keys() == {"input_ids", "attention_mask", "word_ids"}
    assert all(kwargs[key].equal(batch[key]) for key in kwargs)


def test_lengths_are_those_before_the_batch_goes_to_a_device():
    kwargs = PrepareBatchReport(extent=True)(make_batch(), device="meta")[3]
    assert kwargs["word_ids"].device.type == "meta"
    assert kwargs["extent"] == (4, 3)


def test_cached_states_go_along():
    states, attention = torch.rand(2, 4, 6).half(), torch.rand(2, 4).half()
    kwargs = PrepareBatchReport()(make_batch(report_states=states, report_attention=attention))[3]
    assert kwargs["report_states"].equal(states)
    assert kwargs["report_attention"].equal(attention)


def test_nothing_else_goes_along():
    assert "report" not in PrepareBatchReport()(make_batch(report=["text", "text"]))[3]


def test_memory_format_is_for_the_image_alone():
    image, _, _, kwargs = PrepareBatchReport()(make_batch(), dtype=torch.float64)
    assert image.dtype == torch.float64
    assert kwargs["input_ids"].dtype == torch.int64


@pytest.mark.parametrize("key", ["image", "input_ids", "attention_mask", "word_ids"])
def test_missing_key(key):
    batch = make_batch()
    del batch[key]
    with pytest.raises(ValueError, match=f"lacks {key}: .*TokenizeReportd"):
        PrepareBatchReport()(batch)
