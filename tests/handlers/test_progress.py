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

import io

from monai_mgca.handlers import TrainingProgress


def test_shows_iterations_and_loss(make_toy):
    stream = io.StringIO()
    trainer = make_toy((4, 4, 4)).trainer()
    TrainingProgress(desc="Toy", file=stream).attach(trainer)
    trainer.run()
    assert "Toy" in stream.getvalue()
    assert "[3/3]" in stream.getvalue()
    assert "loss=" in stream.getvalue()
