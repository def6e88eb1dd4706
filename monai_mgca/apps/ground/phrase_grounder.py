# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Where in an image a phrase is seen: heat maps of a pretrained model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.utils import CommonKeys, look_up_option

from monai_mgca.apps.image_text_model import PretrainedModel
from monai_mgca.networks import MGCA
from monai_mgca.transforms import InvertProbabilitiesd
from monai_mgca.utils import MGCAKeys

__all__ = ["METHODS", "PhraseGrounder", "usual_features"]

METHODS = ("attribution", "token")
# in pixels: the tokens of all encoders are 16 wide
QUARTER_TOKEN = 4
OFFSETS = [(dy, dx) for dy in (-QUARTER_TOKEN, QUARTER_TOKEN) for dx in (-QUARTER_TOKEN, QUARTER_TOKEN)]


class PhraseGrounder:
    """Heat maps of phrases: where an image has what makes it resemble the phrase, in the trained similarity.

    - "attribution": what every image token adds to the cosine of image and phrase, against the token that is usual at
      its place. The cosine's gradient is integrated along the straight line from the usual tokens to the image's, so
      the map's sum is the difference of both cosines (integrated gradients, Sundararajan et al. "Axiomatic Attribution
      for Deep Networks", ICML 2017, https://arxiv.org/abs/1703.01365). This is the trained instance alignment, read at
      the resolution of the tokens.
    - "token": the mean cosine of every image token with the words of the phrase, less that of the token that is usual
      at its place. This is the trained token alignment itself, whose loss compares the words of one report and asks
      nothing of where in the image they find their match: these maps are far less exact.

    Maps are smooth: they are the mean of four, of the image moved by a quarter of a token to each side.

    Args:
        model: both encoders of a pretraining.
        reference: images that show what is usual, some dozens of any findings; or what :func:`usual_features` made of
            them, by the method.
        method: "attribution" or "token".
        steps: of the integral.

    Raises:
        ValueError: for an unknown method, or no reference image.

    Example::

        ground = PhraseGrounder(load_pretrained("bundles/mgca/models/model_pretrain.pt"), reference=["1.png", "2.png"])
        print(ground("3.png", ["left pleural effusion"]).shape)  # (1, H, W) of the image's own size
    """

    def __init__(
        self,
        model: PretrainedModel,
        reference: Sequence[str | os.PathLike] | Mapping[str, list[torch.Tensor]],
        method: str = "attribution",
        steps: int = 4,
    ) -> None:
        if not reference:
            raise ValueError("PhraseGrounder needs reference images, which show what is usual: some dozens.")
        self.model, self.network, self.steps = model, model.network, steps
        self.method: str = look_up_option(method, METHODS)
        self.invert = InvertProbabilitiesd(keys=CommonKeys.PRED, transform=model.image_transform)
        if not isinstance(reference, Mapping):
            reference = {self.method: usual_features(model, reference, self.method)}
        self.usual = [part.to(model.device) for part in reference[self.method]]

    def __call__(self, path: str | os.PathLike, phrases: Sequence[str]) -> torch.Tensor:
        """
        Args:
            path: of the image.
            phrases: T findings in the words of reports.

        Returns:
            (T, H, W) heat maps at the image's own size, on the CPU: 0 where the image is no more like the phrase than
            usual, or was cut off by the transform.

        Raises:
            DataError: when the image cannot be read; when a phrase is empty, unknown or too long.
        """
        return self.ground_texts(path, self.encode(phrases))

    def ground_words(self, path: str | os.PathLike, report: str) -> tuple[list[str], torch.Tensor]:
        """A map for every word of a report, in the word's context: of the method "token".

        Args:
            path: of the image.
            report: a text; what is beyond the length that the network reads is left out.

        Returns:
            The W words, and (W, H, W) heat maps as those of a call.

        Raises:
            ValueError: when the method is another.
            DataError: when the image cannot be read, or the report has no word.
        """
        if self.method != "token":
            raise ValueError('Single words have no similarity with the whole image: use method="token".')
        tokens, output = self.model.read_report(report)
        mask = output[MGCAKeys.WORD_MASK][0]
        ids, words = tokens["input_ids"], tokens["word_ids"]
        names = [self.model.tokenize.tokenizer.decode(ids[words == word]) for word in range(int(words.max()) + 1)]
        return names, self.ground_texts(path, output[MGCAKeys.WORD_TOKENS][0][mask])

    def encode(self, phrases: Sequence[str], private: bool = False) -> torch.Tensor:
        """What the image is compared with: (T, D) embeddings of phrases, or for "token" the means of their words.

        Args:
            phrases: T findings.
            private: see :meth:`PretrainedModel.encode_texts`.
        """
        texts = self.model.encode_texts(phrases, private)
        if self.method == "attribution":
            return texts[MGCAKeys.REPORT_EMBEDDING]
        share = texts[MGCAKeys.WORD_MASK].to(texts[MGCAKeys.WORD_TOKENS].dtype)
        return torch.einsum("tw,twd->td", share / share.sum(1, keepdim=True), texts[MGCAKeys.WORD_TOKENS])

    def heat_maps(self, image: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """
        Args:
            image: (B, in_channels, S, S) as the network takes it.
            texts: (T, D) of :meth:`encode`.

        Returns:
            (B, T, S, S) heat maps: for "attribution" per token, a part of the cosine; for "token" cosines.
        """
        total = torch.zeros((len(image), len(texts), *image.shape[2:]), device=image.device)
        for moved, usual, (dy, dx) in zip(self._move(image), self.usual, OFFSETS, strict=True):
            features = self._features(moved)
            if self.method == "attribution":
                maps = torch.stack([self._attribute(features, usual, text) for text in texts], dim=1)
            else:
                maps = torch.einsum("bpd,td->btp", features - usual, texts)
            total += _shift(_enlarge(maps, image.shape[2:]), -dy, -dx)
        return total / len(self.usual)

    def ground_texts(self, path: str | os.PathLike, texts: torch.Tensor) -> torch.Tensor:
        """As a call, with (T, D) texts of :meth:`encode`."""
        item = self.model.image_transform({CommonKeys.IMAGE: str(path)})
        heat = self.heat_maps(item[CommonKeys.IMAGE].as_tensor()[None].to(self.model.device), texts)[0]
        # below 0 the image is less like the phrase than usual; what was cut off from the image is filled with 0
        heat = heat.clamp_min(0)
        inverted: MetaTensor = self.invert({**item, CommonKeys.PRED: heat.cpu()})[CommonKeys.PRED]
        return inverted.as_tensor()

    def _features(self, image: torch.Tensor) -> torch.Tensor:
        return _features(self.network, image, self.method)

    def _move(self, image: torch.Tensor) -> list[torch.Tensor]:
        return _move(image)

    def _attribute(self, features: torch.Tensor, usual: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """What each place of (B, C, *places) features adds to the cosine with a text (D,): (B, places)."""
        network, step = self.network, features - usual
        gradient = torch.zeros_like(features)
        with torch.enable_grad():
            for number in range(self.steps):
                point = (usual + (number + 0.5) / self.steps * step).requires_grad_()
                pooled = network.image_encoder.pool_features(point)
                gradient += torch.autograd.grad((network.image_head(pooled) @ text).sum(), point)[0]
        return (step * gradient / self.steps).sum(1).flatten(1)


def usual_features(model: PretrainedModel, images: Sequence[str | os.PathLike], method: str) -> list[torch.Tensor]:
    """The mean features at every place of some images, which maps are drawn against.

    Args:
        model: both encoders of a pretraining.
        images: files.
        method: of :class:`PhraseGrounder`.

    Returns:
        As many as an image is moved for a map: (1, C, *places) or (1, P, D).
    """
    parts: list[list[torch.Tensor]] = [
        [_features(model.network, moved, method).sum(0, keepdim=True) for moved in _move(batch)]
        for batch in model.load_images(images, description="reference")
    ]
    return [torch.stack(sums).sum(0) / len(images) for sums in zip(*parts, strict=True)]


@torch.no_grad()
def _features(network: MGCA, image: torch.Tensor, method: str) -> torch.Tensor:
    if method == "token":
        tokens: torch.Tensor = network.encode_image(image)[MGCAKeys.IMAGE_TOKENS]
        return tokens
    features: torch.Tensor = network.image_encoder.local_features(image)
    return features


def _move(image: torch.Tensor) -> list[torch.Tensor]:
    return [_shift(image, dy, dx) for dy, dx in OFFSETS]


def _shift(image: torch.Tensor, dy: int, dx: int) -> torch.Tensor:
    """Move (B, C, H, W) down and to the right; what comes in repeats the edge."""
    reach = max(abs(dy), abs(dx))
    height, width = image.shape[-2:]
    padded = F.pad(image, [reach] * 4, mode="replicate")
    return padded[..., reach - dy : reach - dy + height, reach - dx : reach - dx + width]


def _enlarge(maps: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """(B, T, P) values of tokens, of [CLS] before them too, as smooth maps (B, T, *size)."""
    side = int(maps.shape[-1] ** 0.5)
    maps = maps[..., maps.shape[-1] - side**2 :].unflatten(-1, (side, side))
    return F.interpolate(maps, tuple(size), mode="bicubic", align_corners=False)
