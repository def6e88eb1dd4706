# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from monai_mgca.visualize import draw_curves, mean_interval, summarize_curves


def test_interval_is_students():
    # 4.302653 is the 97.5 % quantile of t with two degrees of freedom
    reach = 4.302653 * np.std([0.7, 0.8, 0.9], ddof=1) / math.sqrt(3)
    assert mean_interval([0.7, 0.8, np.nan, 0.9]) == pytest.approx((0.8, 0.8 - reach, 0.8 + reach), abs=1e-6)


@pytest.mark.parametrize(("values", "mean"), [([0.6], 0.6), ([], math.nan), ([math.nan], math.nan)])
def test_one_value_or_none_has_no_interval(values, mean):
    found = mean_interval(values)
    assert found == pytest.approx((mean, math.nan, math.nan), nan_ok=True)


def rows():
    return [
        {"encoder": e, "fraction": f, "seed": s, "class": c, "images": 60 * f + s, "auroc": 0.5 + 0.3 * f + 0.01 * s}
        for e in ("a.pt", "random")
        for f in (0.1, 1)
        for s in range(3)
        for c in ("edema", "mean")
    ]


def test_a_line_for_each_cell():
    lines = summarize_curves(rows())
    assert len(lines) == 8
    line = next(x for x in lines if (x["encoder"], x["fraction"], x["class"]) == ("random", 1, "edema"))
    assert (line["images"], line["seeds"]) == (61, 3)
    assert line["mean"] == pytest.approx(0.81)
    assert line["low"] < 0.81 < line["high"]


def test_a_seed_without_a_figure_is_not_counted():
    some = [row | {"auroc": math.nan} if row["seed"] == 0 else row for row in rows()]
    assert {line["seeds"] for line in summarize_curves(some)} == {2}


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_picture(tmp_path, suffix):
    path = tmp_path / f"curves{suffix}"
    draw_curves(path, summarize_curves(rows()))
    assert list(tmp_path.iterdir()) == [path]
    if suffix == ".png":
        with Image.open(path) as picture:
            assert len(set(picture.convert("RGB").getdata())) > 50
