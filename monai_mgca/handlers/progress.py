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

from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from monai.utils import CommonKeys

from monai_mgca.handlers.whole_batch import output_of

__all__ = ["TrainingProgress"]


class TrainingProgress(ProgressBar):
    """A progress bar over the iterations of an epoch, with the loss.

    Args:
        desc: text before the bar.
        kwargs: further arguments of ignite's ``ProgressBar``.

    Example::

        TrainingProgress(desc="Pretraining").attach(trainer)
    """

    def __init__(self, desc: str = "Epoch", **kwargs: Any) -> None:
        # at most two lines a second, also where the output is a file
        super().__init__(desc=desc, persist=True, mininterval=0.5, **kwargs)

    def attach(self, engine: Engine, **kwargs: Any) -> None:  # type: ignore[override]
        """
        Args:
            engine: MONAI's trainer.
            kwargs: further arguments of ignite's ``ProgressBar.attach``.
        """
        super().attach(
            engine,
            output_transform=lambda output: {"loss": output_of(output)[CommonKeys.LOSS]},
            event_name=Events.ITERATION_COMPLETED,
            **kwargs,
        )
