# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes scalar values of a validation to TensorBoard."""

from __future__ import annotations

from typing import Any

from torch.utils.tensorboard import FileWriter, SummaryWriter

__all__ = ["CurveWriter"]


class CurveWriter(SummaryWriter):
    """torch's ``SummaryWriter``, whose folder and file appear with the first value: one that writes none leaves none.

    Args:
        log_dir: folder of the event files.
        kwargs: see ``SummaryWriter``.

    Example::

        CurveWriter("eval").add_scalar("loss", 0.5, 1)
    """

    def __init__(self, log_dir: str, **kwargs: Any) -> None:
        self._begun = False
        super().__init__(log_dir, **kwargs)
        self._begun = True

    def _get_file_writer(self) -> FileWriter | None:
        return super()._get_file_writer() if self._begun else None
