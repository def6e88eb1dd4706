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

from ignite.engine import Engine
from monai.engines import IterationEvents
from torch import nn

__all__ = ["FreezePrototypes"]


class FreezePrototypes:
    """Keeps the prototypes as they are in the first epochs, while the embeddings are still meaningless.

    The gradient is dropped rather than not computed: DDP fixes what it synchronizes when it wraps the network.

    Args:
        network: :class:`monai_mgca.networks.MGCA`, not its DDP wrapper.
        epochs: how many epochs.

    Example::

        FreezePrototypes(network, epochs=1).attach(trainer)
    """

    def __init__(self, network: nn.Module, epochs: int = 1) -> None:
        self.network = network
        self.epochs = epochs

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: MONAI's trainer.
        """
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if engine.state.epoch <= self.epochs:
            self.network.prototypes.weight.grad = None
