# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from monai_mgca.apps.data_command import main
from monai_mgca.data import read_datalist
from monai_mgca.data.check.check_datalist import check_datalist

VOLUMES = ("ct_rate", "rad_chestct", "merlin", "inspect")


@pytest.fixture
def collect(tmp_path, capsys):
    """Runs a source on a folder, and gives its datalist and what was printed, or the error."""

    def run(source, folder, *options, fails=False):
        output = tmp_path / "datalist.json"
        code = main([source, "--dataset-dir", str(folder), "--output", str(output), *map(str, options)])
        captured = capsys.readouterr()
        assert code == (2 if fails else 0), captured.err
        if fails:
            return captured.err
        assert check_datalist(output, folder, volumes=source in VOLUMES) == []
        return read_datalist(output), captured.out

    return run
