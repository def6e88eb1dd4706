# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch
from monai.data import CacheDataset

from monai_mgca.networks import ReportEncoder
from monai_mgca.transforms import EncodeReportd

SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return ReportEncoder(SIZES, freeze=True).train()


def item(*ids, length=8):
    ids = torch.tensor([*ids, *[0] * (length - len(ids))])
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "id": "a"}


def test_equals_the_encoder_on_the_batch(encoder):
    items = [item(2, 5, 6, 7, 3), item(2, 8, 3), item(2, 5, 6, 7, 8, 9, 4, 3)]
    done = [EncodeReportd(encoder)(data) for data in items]
    ids, mask = (torch.stack([data[key] for data in items]) for key in ("input_ids", "attention_mask"))
    states, attention = encoder(ids, mask)
    found = torch.stack([data["report_states"] for data in done]).float()
    assert found.shape == states.shape
    torch.testing.assert_close(found, states * mask[:, :, None], atol=2e-3, rtol=2e-3)
    found = torch.stack([data["report_attention"] for data in done]).float()
    torch.testing.assert_close(found, attention * mask, atol=2e-3, rtol=2e-3)


def test_zero_on_padding_and_half_precision(encoder):
    done = EncodeReportd(encoder)(item(2, 5, 3))
    assert done["report_states"].dtype == done["report_attention"].dtype == torch.float16
    assert not done["report_states"][3:].any()
    assert not done["report_attention"][3:].any()


def test_keeps_the_rest_and_the_input(encoder):
    data = item(2, 5, 3)
    done = EncodeReportd(encoder)(data)
    assert done["id"] == "a"
    assert data.keys() == {"input_ids", "attention_mask", "id"}


def test_is_cached(encoder):
    dataset = CacheDataset([item(2, 5, 3)], EncodeReportd(encoder), progress=False)
    before = dataset[0]["report_states"]
    torch.nn.init.zeros_(encoder.model.embeddings.word_embeddings.weight)
    assert dataset[0]["report_states"].equal(before)


def test_refuses_a_trained_encoder():
    with pytest.raises(ValueError, match="frozen report encoder: freeze=True, --freeze_report_encoder true"):
        EncodeReportd(ReportEncoder(SIZES))
