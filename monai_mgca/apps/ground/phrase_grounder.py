# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Where in an image a phrase is seen: heat maps of a pretrained model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.utils import CommonKeys, look_up_option

from monai_mgca.apps.image_text_model import PretrainedModel
from monai_mgca.data.image_item import ImageLike, image_item
from monai_mgca.networks import MGCA
from monai_mgca.transforms import InvertProbabilitiesd
from monai_mgca.utils import DataError, MGCAKeys

__all__ = ["METHODS", "PhraseGrounder", "usual_features"]

METHODS = ("attribution", "token")
WINDOWS = "these weights see windows, and grounding by attribution needs whole volumes: ground by --method token."
# in pixels: the tokens of all encoders of radiographs are taken for 16 wide
QUARTER_TOKEN = 4
# where an image is moved to, in quarters of a token; a volume to every second corner of a cube, which are as evenly
# spread as all eight for half the time
SIDES: dict[int, list[tuple[int, ...]]] = {
    2: [(-1, -1), (-1, 1), (1, -1), (1, 1)],
    3: [(-1, -1, -1), (-1, 1, 1), (1, -1, 1), (1, 1, -1)],
}


class PhraseGrounder:
    """Heat maps of phrases: where an image or volume has what makes it resemble the phrase, in the trained similarity.

    - "attribution": what every image token adds to the cosine of image and phrase, against the token that is usual at
      its place. The cosine's gradient is integrated along the straight line from the usual tokens to the image's, so
      the map's sum is the difference of both cosines (integrated gradients, Sundararajan et al. "Axiomatic Attribution
      for Deep Networks", ICML 2017, https://arxiv.org/abs/1703.01365). This is the trained instance alignment, read at
      the resolution of the tokens.
    - "token": the mean cosine of every image token with the words of the phrase, less that of the token that is usual
      at its place. This is the trained token alignment itself, whose loss compares the words of one report and asks
      nothing of where in the image they find their match: these maps are far less exact.

    Maps are smooth: they are the mean of four, of the image moved by a quarter of a token to each side; of a volume,
    to four corners of a cube.

    Args:
        model: both encoders of a pretraining.
        reference: images that show what is usual, some dozens of any findings; or what :func:`usual_features` made of
            them, by the method.
        method: "attribution" or "token".
        steps: of the integral.

    Raises:
        ValueError: for an unknown method, or no reference image.
        DataError: for "attribution" by an encoder that sees windows.

    Example::

        ground = PhraseGrounder(load_pretrained("bundles/mgca/models/model_pretrain.pt"), reference=["1.png", "2.png"])
        print(ground("3.png", ["left pleural effusion"]).shape)  # (1, H, W[, D]) of the image's own size
    """

    def __init__(
        self,
        model: PretrainedModel,
        reference: Sequence[ImageLike] | Mapping[str, list[torch.Tensor]],
        method: str = "attribution",
        steps: int = 4,
    ) -> None:
        if not reference:
            raise ValueError("PhraseGrounder needs reference images, which show what is usual: some dozens.")
        self.model, self.network, self.steps = model, model.network, steps
        self.method: str = look_up_option(method, METHODS)
        if self.method == "attribution" and self.network.window_size is not None:
            raise DataError(WINDOWS)
        self.invert = InvertProbabilitiesd(keys=CommonKeys.PRED, transform=model.image_transform)
        if not isinstance(reference, Mapping):
            reference = {self.method: usual_features(model, reference, self.method)}
        self.usual = [part.to(model.device) for part in reference[self.method]]

    def __call__(self, image: ImageLike, phrases: Sequence[str]) -> torch.Tensor:
        """
        Args:
            image: path of the image or volume, or its entry of a datalist.
            phrases: T findings in the words of reports.

        Returns:
            (T, H, W) heat maps at the image's own size, on the CPU: 0 where the image is no more like the phrase than
            usual, or was cut off by the transform. Of a volume (T, X, Y, Z), as its file stores it.

        Raises:
            DataError: when the image cannot be read; when a phrase is empty, unknown or too long.
        """
        return torch.stack(list(self.ground_texts(image, self.encode(phrases))))

    def ground_words(self, image: ImageLike, report: str) -> tuple[list[str], torch.Tensor]:
        """A map for every word of a report, in the word's context: of the method "token".

        Args:
            image: as for a call.
            report: a text; what is beyond the length that the network reads is left out.

        Returns:
            The W words, and (W, H, W) heat maps as those of a call.

        Raises:
            ValueError: when the method is another.
            DataError: when the image cannot be read, or the report has no word.
        """
        names, texts = self.encode_words(report)
        return names, torch.stack(list(self.ground_texts(image, texts)))

    def encode_words(self, report: str) -> tuple[list[str], torch.Tensor]:
        """The W words of a report, and for each, in its context, what the image is compared with: (W, D).

        Args:
            report: as for :meth:`ground_words`, which raises the same.
        """
        if self.method != "token":
            raise ValueError('Single words have no similarity with the whole image: use method="token".')
        tokens, output = self.model.read_report(report)
        mask = output[MGCAKeys.WORD_MASK][0]
        ids, words = tokens["input_ids"], tokens["word_ids"]
        names = [self.model.tokenize.tokenizer.decode(ids[words == word]) for word in range(int(words.max()) + 1)]
        return names, output[MGCAKeys.WORD_TOKENS][0][mask]

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
            image: (B, in_channels, S, S[, S]) as the network takes it.
            texts: (T, D) of :meth:`encode`.

        Returns:
            (B, T, S, S[, S]) heat maps: for "attribution" per token, a part of the cosine; for "token" cosines.
        """
        size = image.shape[2:]
        total = torch.zeros((len(image), len(texts), *size), device=image.device)
        grid = _token_grid(self.usual[0], self.method, size)
        for moved, usual, offset in zip(self._move(image), self.usual, _offsets(grid, size), strict=True):
            features = _features(self.network, moved, self.method)
            if self.method == "attribution":
                maps = torch.stack([self._attribute(features, usual, text) for text in texts], dim=1)
            else:
                maps = torch.einsum("bpd,td->btp", features - usual, texts)
            total += _shift(_enlarge(maps, grid, size), [-by for by in offset])
        return total / len(self.usual)

    def ground_texts(self, image: ImageLike, texts: torch.Tensor) -> Iterator[torch.Tensor]:
        """As a call, with (T, D) texts of :meth:`encode`; the maps come one by one, for those of volumes are large.

        Yields:
            (H, W[, D])
        """
        item = self.model.image_transform(image_item(image))
        heat = self.heat_maps(item[CommonKeys.IMAGE].as_tensor()[None].to(self.model.device), texts)[0]
        # below 0 the image is less like the phrase than usual; what was cut off from the image is filled with 0
        for one in heat.clamp_min(0).cpu():
            inverted: MetaTensor = self.invert({**item, CommonKeys.PRED: one[None]})[CommonKeys.PRED]
            yield inverted.as_tensor()[0]

    def _move(self, image: torch.Tensor) -> Iterator[torch.Tensor]:
        size = image.shape[2:]
        return (_shift(image, offset) for offset in _offsets(_token_grid(self.usual[0], self.method, size), size))

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


def usual_features(model: PretrainedModel, images: Sequence[ImageLike], method: str) -> list[torch.Tensor]:
    """The mean features at every place of some images, which maps are drawn against.

    Args:
        model: both encoders of a pretraining.
        images: files, or entries.
        method: of :class:`PhraseGrounder`.

    Returns:
        As many as an image is moved for a map: (1, C, *places) or (1, P, D).
    """
    sums: list[torch.Tensor] = []
    grid: tuple[int, ...] = ()
    for batch in model.load_images(images, description="reference"):
        size = batch.shape[2:]
        # of volumes their tokens say how wide they are
        grid = grid or (
            _token_grid(_features(model.network, batch[:1], method), method, size) if len(size) == 3 else ()
        )
        parts = [
            _features(model.network, _shift(batch, offset), method).sum(0, keepdim=True)
            for offset in _offsets(grid, size)
        ]
        sums = [one + other for one, other in zip(sums, parts, strict=True)] if sums else parts
    return [total / len(images) for total in sums]


@torch.no_grad()
def _features(network: MGCA, image: torch.Tensor, method: str) -> torch.Tensor:
    if method == "token":
        tokens: torch.Tensor = network.encode_image(image)[MGCAKeys.IMAGE_TOKENS]
        return tokens
    features: torch.Tensor = network.image_encoder.local_features(image)
    return features


def _token_grid(features: torch.Tensor, method: str, size: Sequence[int]) -> tuple[int, ...]:
    """The numbers of tokens along the axes of an image, from features (B, P, D), (B, C, P) or (B, C, *places) of it."""
    if features.ndim == 2 + len(size):
        return tuple(features.shape[2:])
    count = features.shape[1 if method == "token" else 2]  # [CLS] may be among them
    if len(size) == 2:
        return (math.isqrt(count),) * 2
    grids = (tuple(-(-edge // patch) for edge in size) for patch in range(1, max(size) + 1))
    return next(grid for grid in grids if math.prod(grid) <= count)


def _offsets(grid: Sequence[int], size: Sequence[int]) -> list[list[int]]:
    """Where an image of a size is moved to for its maps, in pixels or voxels."""
    quarter = QUARTER_TOKEN if len(size) == 2 else max(1, round(size[0] / grid[0] / 4))
    return [[quarter * side for side in sides] for sides in SIDES[len(size)]]


def _shift(image: torch.Tensor, offset: Sequence[int]) -> torch.Tensor:
    """Move (B, C, H, W[, D]) by so many pixels along each axis; what comes in repeats the edge."""
    reach = max(map(abs, offset))
    padded = F.pad(image, [reach] * (2 * len(offset)), mode="replicate")
    starts = [reach - by for by in offset]
    places: Any = (..., *(slice(start, start + n) for start, n in zip(starts, image.shape[2:], strict=True)))
    moved: torch.Tensor = padded[places]
    return moved


def _enlarge(maps: torch.Tensor, grid: Sequence[int], size: Sequence[int]) -> torch.Tensor:
    """(B, T, P) values of tokens, of [CLS] before them too, as smooth maps (B, T, *size)."""
    maps = maps[..., maps.shape[-1] - math.prod(grid) :].unflatten(-1, tuple(grid))
    return F.interpolate(maps, tuple(size), mode="bicubic" if len(size) == 2 else "trilinear", align_corners=False)
