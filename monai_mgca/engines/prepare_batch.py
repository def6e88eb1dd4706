# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Hands MONAI's trainer the images, token ids and attention masks of a batch."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import PrepareBatch
from monai.utils import CommonKeys

from monai_mgca.networks.word_pooling import report_extent

__all__ = ["PrepareBatchReport"]

REQUIRED = ("input_ids", "attention_mask", "word_ids")
CACHED = ("report_states", "report_attention")


class PrepareBatchReport(PrepareBatch):
    """Hands images and tokenized reports to :class:`monai_mgca.networks.MGCA` in MONAI's engines.

    The token ids are the target too: the loss does not need one, but retrieval must know which reports are the same.
    States of a frozen report encoder that :class:`monai_mgca.transforms.EncodeReportd` made go along where a batch
    has them.

    Args:
        extent: hand over how far the reports reach, too (:func:`monai_mgca.networks.report_extent`), which is known
            here without waiting for a device; for MGCA, and any network whose ``forward`` has that argument.

    Example::

        trainer = SupervisedTrainer(..., prepare_batch=PrepareBatchReport(), loss_function=MGCALoss(), decollate=False)
    """

    def __init__(self, extent: bool = False) -> None:
        self.extent = extent

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, tuple, dict[str, Any]]:
        """
        Args:
            batchdata: "image", "input_ids", "attention_mask", "word_ids" and perhaps "report_states",
                "report_attention".
            device: to move the tensors to.
            non_blocking: as in ``torch.Tensor.to``.
            kwargs: further arguments of ``torch.Tensor.to``.

        Raises:
            ValueError: when a key is missing in the batch.
        """
        missing = [key for key in (CommonKeys.IMAGE, *REQUIRED) if key not in batchdata]
        if missing:
            raise ValueError(f"The batch lacks {', '.join(missing)}: LoadRadiographd and TokenizeReportd make them.")

        def move(key: str) -> torch.Tensor:
            return torch.as_tensor(batchdata[key]).to(device=device, non_blocking=non_blocking)

        image = torch.as_tensor(batchdata[CommonKeys.IMAGE])
        # the networks have no use for the metadata, which would slow every operation down
        image = image.as_tensor() if hasattr(image, "as_tensor") else image
        image = image.to(device=device, non_blocking=non_blocking, **kwargs)
        reports: dict[str, Any] = {key: move(key) for key in (*REQUIRED, *CACHED) if key in batchdata}
        if self.extent:
            lengths = (torch.as_tensor(batchdata[key]) for key in ("attention_mask", "word_ids"))
            reports["extent"] = report_extent(*lengths)
        return image, reports["input_ids"], (), reports
