# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from monai_mgca.options import switches


def test_text_of_the_command_line():
    made = switches(amp="false", resume="True", compile=False, augment=True)
    assert (made.amp, made.resume, made.compile, made.augment) == (False, True, False, True)


def test_anything_else_is_an_error_that_names_the_switch():
    with pytest.raises(ValueError, match="amp must be true or false, got 'maybe'"):
        switches(amp="maybe")
