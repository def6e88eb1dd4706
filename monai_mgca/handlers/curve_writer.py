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
