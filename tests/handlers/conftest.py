# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import nn

from monai_mgca.engines import PrepareBatchReport
from monai_mgca.losses import MGCALoss
from monai_mgca.networks.mgca import Prototypes
from monai_mgca.utils import MGCAKeys


class ToyMGCA(nn.Module):
    """Gives embeddings and prototype scores as MGCA does, from a linear map of either modality."""

    def __init__(self, embed_dim: int = 6) -> None:
        super().__init__()
        self.image = nn.Linear(16, embed_dim)
        self.report = nn.Embedding(30, embed_dim)
        self.prototypes = Prototypes(embed_dim, 5)

    def forward(self, image, input_ids, attention_mask, word_ids):
        images = F.normalize(self.image(image.flatten(1)), dim=1)
        reports = F.normalize(self.report(input_ids).mean(1), dim=1)
        return {
            MGCAKeys.IMAGE_EMBEDDING: images,
            MGCAKeys.REPORT_EMBEDDING: reports,
            MGCAKeys.IMAGE_SCORES: self.prototypes(images),
            MGCAKeys.REPORT_SCORES: self.prototypes(reports),
        }


def make_batches(sizes: tuple[int, ...]) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    batches = []
    for size in sizes:
        ids = torch.randint(3, 30, (size, 4), generator=generator)
        masks = {"attention_mask": torch.ones_like(ids), "word_ids": torch.zeros_like(ids)}
        batches.append({"image": torch.rand(size, 1, 4, 4, generator=generator), "input_ids": ids, **masks})
    return batches


@dataclass
class Toy:
    """A network with its loss and optimizer, and MONAI's engines around them."""

    network: ToyMGCA
    loss: MGCALoss
    optimizer: torch.optim.Optimizer
    batches: list[dict[str, torch.Tensor]]

    def trainer(self, epochs: int = 1, handlers: Any = (), **kwargs: Any) -> SupervisedTrainer:
        return SupervisedTrainer(
            device="cpu",
            max_epochs=epochs,
            train_data_loader=self.batches,
            network=self.network,
            optimizer=self.optimizer,
            loss_function=self.loss,
            prepare_batch=PrepareBatchReport(),
            train_handlers=list(handlers),
            decollate=False,
            **kwargs,
        )

    def evaluator(self, handlers: Any = (), **kwargs: Any) -> SupervisedEvaluator:
        return SupervisedEvaluator(
            device="cpu",
            val_data_loader=self.batches,
            network=self.network,
            prepare_batch=PrepareBatchReport(),
            val_handlers=list(handlers),
            decollate=False,
            **kwargs,
        )

    def outputs(self) -> list[dict[str, torch.Tensor]]:
        """What the network gives for each batch in evaluation."""
        self.network.eval()
        with torch.no_grad():
            return [self.network(**batch) for batch in self.batches]


@pytest.fixture
def make_toy() -> Callable[..., Toy]:
    """Makes such a network, the same for the same seed."""

    def make(sizes: tuple[int, ...] = (5, 5, 2), embed_dim: int = 6, seed: int = 0) -> Toy:
        torch.manual_seed(seed)
        network = ToyMGCA(embed_dim)
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
        return Toy(network, MGCALoss((1, 0, 1)), optimizer, make_batches(sizes))

    return make
