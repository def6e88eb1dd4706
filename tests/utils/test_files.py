# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

from __future__ import annotations

import pytest

from monai_mgca.utils import read_settings, write_settings


def test_round_trip(tmp_path):
    path, settings = tmp_path / "new" / "model.json", {"image_size": 64, "name": "vit", "layers": None}
    write_settings(path, settings)
    assert read_settings(path) == settings
    assert read_settings(str(path)) == settings


def test_no_file_is_no_settings(tmp_path):
    assert read_settings(tmp_path / "none.json") == {}


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.json"
    write_settings(path, {"a": 1})
    with pytest.raises(TypeError):
        write_settings(path, {"a": object()})
    assert read_settings(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["model.json"]
