# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Tokenizes a report once, so that a cache can keep it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from monai.transforms import MapTransform

__all__ = ["EncodeReportd"]


class EncodeReportd(MapTransform):
    """Run a frozen report encoder on a tokenized report, so that a cache keeps its states and no epoch computes them.

    Takes "input_ids" and "attention_mask" (L,), adds "report_states" (L, C) and "report_attention" (L,) in half
    precision, zero on padding. Put it before the random transforms of a cached dataset.

    Args:
        encoder: gives (states, attention) for ids and mask, as :class:`monai_mgca.networks.ReportEncoder` does.

    Raises:
        ValueError: when a parameter of the encoder is trained: its states would be of no use after the first step.

    Example::

        from monai_mgca.networks import ReportEncoder
        sizes = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        encode = EncodeReportd(ReportEncoder({**sizes, "intermediate_size": 64}, freeze=True))
        ids = torch.tensor([2, 7, 8, 3, 0])
        print(encode({"input_ids": ids, "attention_mask": (ids > 0).long()})["report_states"].shape)
    """

    def __init__(self, encoder: torch.nn.Module) -> None:
        if any(parameter.requires_grad for parameter in encoder.parameters()):
            raise ValueError("EncodeReportd needs a frozen report encoder: freeze=True, --freeze_report_encoder true.")
        super().__init__(("input_ids", "attention_mask"))
        self.encoder = encoder

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: with "input_ids" and "attention_mask", as ``TokenizeReportd`` makes them.
        """
        length = int(data["attention_mask"].sum())
        padding = len(data["input_ids"]) - length
        device = next(self.encoder.parameters()).device
        ids, mask = (data[key][None, :length].to(device) for key in ("input_ids", "attention_mask"))
        with torch.no_grad():
            states, attention = self.encoder(ids, mask)
        return {
            **data,
            "report_states": F.pad(states[0].half().cpu(), (0, 0, 0, padding)),
            "report_attention": F.pad(attention[0].half().cpu(), (0, padding)),
        }
