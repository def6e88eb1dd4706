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

from monai_mgca.utils import switches


def test_text_of_the_command_line():
    made = switches(amp="false", resume="True", compile=False, augment=True)
    assert (made.amp, made.resume, made.compile, made.augment) == (False, True, False, True)


def test_anything_else_is_an_error_that_names_the_switch():
    with pytest.raises(ValueError, match="amp must be true or false, got 'maybe'"):
        switches(amp="maybe")
