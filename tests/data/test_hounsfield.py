# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Volumes whose values are no Hounsfield units are found by their histogram, and named by the mistake."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

from monai_mgca.__main__ import main
from monai_mgca.data.check.hounsfield import unit_problem
from monai_mgca.transforms import LoadVolume

REASON = "values are no Hounsfield units"
REAL = ["chest_1p5mm_a.nii.gz", "chest_3mm_int32.nii.gz", "chest_small.nii.gz", "series_dicom"]


def chest(size=24):
    """Air around a body with lungs, fat, muscle and a little bone, as noisy whole numbers."""
    rng = np.random.default_rng(0)
    x, y, _ = np.meshgrid(*[np.linspace(-1, 1, size)] * 3, indexing="ij")
    values = np.full((size,) * 3, -1000.0)
    values[x**2 + y**2 < 0.8] = -90
    values[x**2 + y**2 < 0.65] = 45
    values[(abs(x) - 0.4) ** 2 * 6 + y**2 * 3 < 0.5] = -860
    values[x**2 + (y - 0.6) ** 2 < 0.02] = 500
    return np.rint(np.maximum(values + rng.normal(0, 15, values.shape), -1024))


def as_mr(values):
    """Tissue of many brightnesses on a dark background."""
    bright = np.random.default_rng(1).gamma(4, 300, values.shape)
    return np.rint(np.where(values < -950, 8, bright))


def wrong_ct(ct):
    """Each mistake, and what it is called."""
    return {
        "stored values without the rescale intercept; subtract 1024": ct + 1024,
        "intercept; subtract 8192": ct + 8192,
        "the rescale intercept applied twice; add 1024": ct - 1024,
        "intercept applied twice; add 8192": ct - 8192,
        "slope of 2 applied twice": ct * 2 - 1024,
        "slope of 0.5 applied twice": ct * 0.5,
        "slope of 0.5 and the intercept": (ct + 1024) / 0.5,
        "scaled already": (np.clip(ct, -1000, 400) + 1000) / 1400,
        "normalized": (ct - ct.mean()) / ct.std(),
        "gray of 8 bits": np.rint((np.clip(ct, -1000, 400) + 1000) / 1400 * 255),
        "without their sign": np.where(ct < 0, ct + 65536, ct),
        "cut to a narrow window": np.clip(ct, -160, 240),
    }


def padded(ct, value):
    """The corners outside of the circle that a scanner sees."""
    x, y = np.meshgrid(*[np.linspace(-1, 1, size) for size in ct.shape[:2]], indexing="ij")
    return np.where((x**2 + y**2 > 1)[..., None], value, ct)


@pytest.mark.parametrize("change", ["none", "clipped", -2000, -3024, -1500, 3000], ids=str)
def test_sound(change):
    ct = chest()
    ct = {"none": ct, "clipped": np.clip(ct, -1000, 400)}[change] if isinstance(change, str) else padded(ct, change)
    assert unit_problem(ct) is None


@pytest.mark.parametrize("name", wrong_ct(chest()))
def test_mistakes_are_named(name):
    assert name in unit_problem(wrong_ct(chest())[name])


@pytest.mark.parametrize("offset", [1024, -1024])
def test_mistakes_are_named_beside_padding(offset):
    assert "intercept" in unit_problem(padded(chest() + offset, -5000))


@pytest.mark.parametrize("scale", [0.1, 1, 3])
def test_mr(scale):
    assert "no CT (an MR?)" in unit_problem(as_mr(chest()) * scale)


def test_the_range_is_told():
    assert unit_problem(np.linspace(0, 1, 64).reshape(4, 4, 4)).startswith("0 to 1: ")


def test_a_large_volume_takes_no_longer():
    ct = chest(24).astype(np.int16)
    large = np.broadcast_to(ct[:, None, :, None, :, None], (24, 20, 24, 20, 24, 20)).reshape(480, 480, 480)
    assert unit_problem(large) is None
    assert "subtract 1024" in unit_problem(large + np.int16(1024))


class TestCommand:
    @pytest.fixture
    def datalist(self, tmp_path):
        ct = chest()
        for name, values in {"ct": ct, "stored": ct + 1024, "twice": ct - 1024, "mr": as_mr(ct)}.items():
            nibabel.save(nibabel.Nifti1Image(values.astype(np.int16), np.eye(4)), tmp_path / f"{name}.nii")
        entries = [
            {"id": name, "image": f"{name}.nii", "patient": name, "report": f"No pleural effusion in {name} today."}
            for name in ("ct", "stored", "twice", "mr")
        ]
        (tmp_path / "list.json").write_text(json.dumps({"training": entries}))
        return str(tmp_path / "list.json")

    def test_files_are_named_and_left_out(self, datalist, tmp_path, capsys):
        clean = tmp_path / "clean.json"
        assert main(["check", datalist, "--volumes", "--write-clean", str(clean)]) == 1
        out = capsys.readouterr().out
        assert f"3  {REASON}" in out
        assert "stored.nii: 0 to" in out
        assert "subtract 1024" in out
        assert "add 1024" in out
        assert [entry["id"] for entry in json.loads(clean.read_text())["training"]] == ["ct"]

    def test_kept(self, datalist, capsys):
        assert main(["check", datalist, "--volumes", "--keep", REASON]) == 0
        assert REASON in capsys.readouterr().out

    def test_other_modalities_have_other_units(self, datalist, capsys):
        assert main(["check", datalist, "--volumes", "--modality", "MR"]) == 0
        assert "nothing is broken" in capsys.readouterr().out


class TestReal:
    @pytest.fixture(params=REAL)
    def ct(self, request, shared):
        return LoadVolume()(shared / "data" / "ct" / request.param)[0].numpy()

    def test_cts_are_sound_and_their_mistakes_named(self, ct):
        assert unit_problem(ct) is None
        for name, values in wrong_ct(ct).items():
            assert name in unit_problem(values), name

    def test_an_mr_is_no_ct(self, shared):
        values = LoadVolume()(shared / "data" / "ct" / "mr_small.nii.gz")[0].numpy()
        assert "no CT (an MR?)" in unit_problem(values)
        assert "no CT (an MR?)" in unit_problem(values * 3)
