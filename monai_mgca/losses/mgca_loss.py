# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The loss of MGCA: the weighted sum of its three alignments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.nn.modules.loss import _Loss

from monai_mgca.losses.instance import InstanceAlignmentLoss
from monai_mgca.losses.matched_token import MatchedTokenLoss
from monai_mgca.losses.prototype import PrototypeAlignmentLoss
from monai_mgca.losses.token import TokenAlignmentLoss
from monai_mgca.utils.dist import batch_sizes, world_size
from monai_mgca.utils.enums import MGCAKeys as Keys

__all__ = ["MGCALoss"]


class MGCALoss(_Loss):
    """The weighted sum of MGCA's three alignments: instance-wise, token-wise and by prototypes.

    Wang et al. "Multi-Granularity Cross-modal Alignment for Generalized Medical Visual Representation Learning",
    NeurIPS 2022, https://arxiv.org/abs/2210.06044.

    Where the terms gather over processes, DDP's mean of the gradients is the gradient of the joined batch, also where
    processes have batches of different sizes: the total then counts by the process's share of the samples.

    Args:
        weights: of the instance, token and prototype term. A term of weight 0 is not computed.
        instance: the instance term, ``InstanceAlignmentLoss()`` if None.
        token: the token term, used for both sides, ``TokenAlignmentLoss()`` if None. Where the output has no contexts,
            they are found by similarity on the way, at its temperature: see :class:`MatchedTokenLoss`.
        prototype: the prototype term, ``PrototypeAlignmentLoss()`` if None.
        bidirectional: take the mean of the word side and the image side of the token term, else the word side alone.

    Attributes:
        terms: the unweighted terms of the last call, detached, for logging.

    Raises:
        ValueError: when ``weights`` are not three numbers that are not negative, or all are 0.

    Example::

        unit = lambda *shape: torch.nn.functional.normalize(torch.randn(*shape), dim=-1)
        output = {
            "image_embedding": unit(4, 32), "report_embedding": unit(4, 32),
            "image_tokens": unit(4, 49, 32), "image_context": unit(4, 49, 32),
            "word_tokens": unit(4, 12, 32), "word_context": unit(4, 12, 32),
            "image_scores": torch.rand(4, 16), "report_scores": torch.rand(4, 16),
        }
        print(MGCALoss()(output))
    """

    def __init__(
        self,
        weights: Sequence[float] = (1, 1, 1),
        instance: InstanceAlignmentLoss | None = None,
        token: TokenAlignmentLoss | None = None,
        prototype: PrototypeAlignmentLoss | None = None,
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        if len(weights) != 3 or min(weights) < 0 or max(weights) == 0:
            raise ValueError(f"weights must be three numbers >= 0 and not all 0, got {tuple(weights)}.")
        self.weights = dict(zip(("instance", "token", "prototype"), weights, strict=True))
        self.instance = instance or InstanceAlignmentLoss()
        self.token = token or TokenAlignmentLoss()
        self.matched = MatchedTokenLoss(self.token.temperature)
        self.prototype = prototype or PrototypeAlignmentLoss()
        self.bidirectional = bidirectional
        self.terms: dict[str, torch.Tensor] = {}

    @classmethod
    def official(cls, bidirectional: bool = True) -> MGCALoss:
        """The official code's total: sums where the paper has means, and padding among the negatives.

        Args:
            bidirectional: as in the class.
        """
        sides = 2 if bidirectional else 1
        return cls((2, sides, 1), token=TokenAlignmentLoss(mask_padding=False), bidirectional=bidirectional)

    def components(self, output: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The terms before weighting, by name: "instance", "token", "prototype"; those of weight 0 are left out.

        Args:
            output: what :class:`monai_mgca.networks.MGCA` returns, keyed by :class:`monai_mgca.utils.MGCAKeys`.
        """
        makers = {
            "instance": lambda: self.instance(output[Keys.IMAGE_EMBEDDING], output[Keys.REPORT_EMBEDDING]),
            "token": lambda: self._token(output),
            "prototype": lambda: self.prototype(output[Keys.IMAGE_SCORES], output[Keys.REPORT_SCORES]),
        }
        return {name: make() for name, make in makers.items() if self.weights[name] > 0}

    def _token(self, output: Mapping[str, torch.Tensor]) -> torch.Tensor:
        if Keys.WORD_CONTEXT not in output:
            if not (self.bidirectional and self.token.mask_padding):
                raise ValueError("One side alone, or padding among the negatives, needs MGCA(return_contexts=True).")
            matched: torch.Tensor = self.matched(
                output[Keys.WORD_TOKENS],
                output[Keys.IMAGE_TOKENS],
                output.get(Keys.WORD_WEIGHTS),
                output.get(Keys.IMAGE_WEIGHTS),
                output.get(Keys.WORD_MASK),
            )
            return matched
        words: torch.Tensor = self.token(
            output[Keys.WORD_TOKENS],
            output[Keys.WORD_CONTEXT],
            output.get(Keys.WORD_WEIGHTS),
            output.get(Keys.WORD_MASK),
        )
        if not self.bidirectional:
            return words
        patches = self.token(output[Keys.IMAGE_TOKENS], output[Keys.IMAGE_CONTEXT], output.get(Keys.IMAGE_WEIGHTS))
        return (words + patches) / 2

    def outputs_read(self) -> set[Keys]:
        """The keys of the network's output from which a gradient comes, by the terms that have a weight."""
        read = {
            "instance": {Keys.IMAGE_EMBEDDING, Keys.REPORT_EMBEDDING},
            "token": {Keys.WORD_TOKENS, Keys.WORD_CONTEXT},
            "prototype": {Keys.IMAGE_SCORES, Keys.REPORT_SCORES},
        }
        if self.bidirectional:
            read["token"] |= {Keys.IMAGE_TOKENS, Keys.IMAGE_CONTEXT}
        return {key for name, keys in read.items() if self.weights[name] > 0 for key in keys}

    def _gathers(self) -> bool:
        return self.instance.gather_distributed or self.prototype.gather_distributed

    def forward(self, output: Mapping[str, torch.Tensor], target: object = None) -> torch.Tensor:
        """
        Args:
            output: as in :meth:`components`.
            target: not used; MONAI's engines pass one.

        Returns:
            The loss, a scalar.
        """
        terms = self.components(output)
        self.terms = {name: term.detach() for name, term in terms.items()}
        total = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        if self.training and world_size() > 1 and self._gathers():
            count = len(next(iter(output.values())))
            total = total * (count * world_size() / sum(batch_sizes(count)))
        return total
