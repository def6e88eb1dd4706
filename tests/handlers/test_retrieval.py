# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch
from monai.metrics import EmbeddingCollapseMetric

from monai_mgca.handlers import RetrievalHandler
from monai_mgca.metrics import RetrievalMetric
from monai_mgca.utils import MGCAKeys


def test_whole_set_in_the_evaluator(make_toy):
    toy = make_toy((5, 4, 2))
    evaluator = toy.evaluator(key_val_metric={"val_mean_recall": RetrievalHandler(ks=(1, 3))})
    evaluator.run()
    outputs = toy.outputs()
    image = torch.cat([output[MGCAKeys.IMAGE_EMBEDDING] for output in outputs])
    report = torch.cat([output[MGCAKeys.REPORT_EMBEDDING] for output in outputs])
    metric = RetrievalMetric(ks=(1, 3))
    metric(image, report, report_tokens=torch.cat([batch["input_ids"] for batch in toy.batches]))
    expected = metric.aggregate()
    metrics = evaluator.state.metrics
    assert metrics.pop("val_mean_recall") == pytest.approx(expected.pop("mean_recall"))
    collapse = EmbeddingCollapseMetric(include_indicators=["effective_rank"])(image)["effective_rank_score"]
    assert metrics.pop("val_image_collapse") == pytest.approx(float(collapse), abs=1e-5)
    assert 0 <= metrics.pop("val_report_collapse") <= 1
    assert metrics == {f"val_{name}": pytest.approx(value) for name, value in expected.items()}


def test_starts_again_in_each_run(make_toy):
    evaluator = make_toy().evaluator(key_val_metric={"val_mean_recall": RetrievalHandler()})
    evaluator.run()
    first = dict(evaluator.state.metrics)
    evaluator.run()
    assert evaluator.state.metrics == first


def test_collapsed_embeddings(make_toy):
    toy = make_toy((8,))
    torch.nn.init.zeros_(toy.network.image.weight)
    evaluator = toy.evaluator(key_val_metric={"val_mean_recall": RetrievalHandler(prefix="v_")})
    evaluator.run()
    # one dimension of six is left
    assert evaluator.state.metrics["v_image_collapse"] == pytest.approx(5 / 6, abs=1e-4)
    assert evaluator.state.metrics["v_report_collapse"] < 0.8


def test_embeddings_that_are_not_finite(make_toy):
    toy = make_toy((8,))
    torch.nn.init.constant_(toy.network.image.weight, torch.nan)
    evaluator = toy.evaluator(key_val_metric={"val_mean_recall": RetrievalHandler(ks=(1, 3), prefix="v_")})
    evaluator.run()
    assert evaluator.state.metrics["val_mean_recall"] == 0
    assert evaluator.state.metrics["v_image_collapse"] != evaluator.state.metrics["v_image_collapse"]  # nan
    assert 0 <= evaluator.state.metrics["v_report_collapse"] <= 1
