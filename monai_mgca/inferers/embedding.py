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

from collections.abc import Collection, Mapping

import torch
from monai.networks import eval_mode
from monai.utils import CommonKeys
from torch import nn

from monai_mgca.data.many import progress_bar

__all__ = ["compute_features"]


def compute_features(
    encoder: nn.Module,
    loader: Collection[Mapping[str, torch.Tensor]],
    device: torch.device | str = "cpu",
    description: str = "features",
) -> torch.Tensor:
    """The pooled features of every image, computed once, as :class:`monai_mgca.networks.RadiographClassifier` has them.

    Args:
        encoder: :class:`ViTImageEncoder` or :class:`ResNetImageEncoder`; it computes as in evaluation.
        loader: batches with "image" (B, in_channels, H, W), in a fixed order.
        device: where to compute.
        description: text before the progress bar.

    Returns:
        (N, C), float32, on the CPU.

    Example::

        encoder = create_image_encoder("resnet_compact")
        print(compute_features(encoder, [{"image": torch.rand(2, 1, 64, 64)}]).shape)  # (2, 256)
    """
    encoder = encoder.to(device)
    parts = []
    with eval_mode(encoder):
        for batch in progress_bar(loader, description, len(loader)):
            pooled = encoder(torch.as_tensor(batch[CommonKeys.IMAGE], device=device)).pooled
            parts.append(pooled.float().cpu())
    return torch.cat(parts)
