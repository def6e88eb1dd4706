# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What the tests of all libraries' encoders compare by."""

from __future__ import annotations

import torch

from monai_mgca.networks import AdaptedImageEncoder


def equal(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def answers_gray_as_equal_channels(
    gray: AdaptedImageEncoder, encoder: AdaptedImageEncoder, image: torch.Tensor
) -> None:
    """An encoder of one channel gives for it what one of three gives for three equal ones."""
    equal(gray(image[:, :1]).pooled, encoder(image[:, :1].expand(-1, 3, -1, -1)).pooled)
