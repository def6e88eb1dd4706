# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""What a live server's memory grows by while it answers of a large volume, by the kernel's own count."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from .volume_studies import draw_ct

SIZE, SPACING = (384, 384, 300), (0.9, 0.9, 1.0)
# of the volume in float32: as read, and turned to RAS or in its window; three or more are copies that nothing needs
COPIES = 2.4
MODELS = {"classification": {}, "segmentation": {}, "detection": {}, "grounding": {"text": "left pleural effusion"}}


@pytest.fixture(scope="module")
def running(start_server, volume_bundle, write_series, tmp_path_factory):
    """A server over a small and a large NIfTI file and series, which has answered once of the small ones."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the system does not count a process's peak of memory")
    folder = tmp_path_factory.mktemp("volumes")
    small = draw_ct(0, (96, 96, 75))
    large = np.asfortranarray(small.repeat(4, 0).repeat(4, 1).repeat(4, 2))
    for name, values, times in (("small", small, 4), ("large", large, 1)):
        sizes = [size * times for size in SPACING]
        nibabel.save(
            nibabel.Nifti1Image(values, np.diag([-sizes[0], -sizes[1], sizes[2], 1])), folder / f"{name}.nii.gz"
        )
        write_series(folder / "series" / name, values, sizes, (-170, -170, -150))
    server = start_server(folder, volume_bundle, "--reports", str(tmp_path_factory.mktemp("reports")))
    assert server.wait_for("/scoring/")["status"] == "DONE"
    for model, params in MODELS.items():
        for name in ("small", "series=small"):
            assert server.infer(model, name, "json", **params).status_code == 200
    return server


def megabytes(server, key):
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(f"{key}:"))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["large", "series=large"])
def test_two_copies_of_a_volume_are_the_most(running, name, model):
    volume = np.prod(SIZE) * 4 / 2**20
    Path(f"/proc/{running.process.pid}/clear_refs").write_text("5")  # the peak begins again at what there is now
    before = megabytes(running, "VmRSS")
    assert megabytes(running, "VmHWM") < before + volume / 4
    answer = running.infer(model, name, "image" if model != "classification" else "json", **MODELS[model])
    assert answer.status_code == 200, answer.text
    grown = megabytes(running, "VmHWM") - before
    assert volume < grown < COPIES * volume
    assert megabytes(running, "VmRSS") - before < volume / 2  # nothing of it is kept


def test_a_series_is_sent_without_a_copy(running):
    volume, before = np.prod(SIZE) * 4 / 2**20, megabytes(running, "VmRSS")
    Path(f"/proc/{running.process.pid}/clear_refs").write_text("5")
    assert running.ask("GET", "/datastore/image?image=series=large").status_code == 200
    assert megabytes(running, "VmHWM") - before < COPIES * volume
