# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A pretrained model with both encoders, loaded from its weights and ready to embed images and texts."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Compose
from monai.utils import CommonKeys

from monai_mgca.apps.build_model import build_network, image_transform
from monai_mgca.apps.load_images import image_batches
from monai_mgca.data.image_item import ImageLike
from monai_mgca.networks import MGCA
from monai_mgca.transforms import CleanReport, TokenizeReport
from monai_mgca.utils import DataError, MGCAKeys
from monai_mgca.utils.progress import progress_bar
from monai_mgca.weights import load_network, read_calibration, read_model_settings
from monai_mgca.weights.model_settings import naming_settings

__all__ = ["PretrainedModel", "image_transform", "load_pretrained"]

logger = logging.getLogger(__name__)

TOKENS = ("input_ids", "attention_mask", "word_ids")


class PretrainedModel:
    """Both encoders of a pretraining, with what turns files and texts into their input as the training did.

    Args:
        network: in evaluation mode; its device is where all is computed.
        image_transform: makes "image" of {"image": path}.
        tokenize: of the reports.
        letters: of the texts, see :class:`monai_mgca.transforms.CleanReport`.
        settings: of the weights, which say whether it is of radiographs or of volumes (``spatial_dims``).
        calibration: of its zero-shot probabilities, see :func:`monai_mgca.weights.read_calibration`.

    Example::

        model = load_pretrained("bundles/mgca/models/model_pretrain.pt")
        similarity = model.embed_images(["1.png"]) @ model.embed_texts(["small left pleural effusion"]).T
    """

    def __init__(
        self,
        network: MGCA,
        image_transform: Compose,
        tokenize: TokenizeReport,
        letters: str = "ascii",
        settings: Mapping[str, Any] | None = None,
        calibration: Mapping[str, Any] | None = None,
    ) -> None:
        self.network = network.eval()
        self.calibration = calibration
        self.settings = dict(settings or {})
        self.spatial_dims = int(self.settings.get("spatial_dims", 2))
        self.image_transform = image_transform
        self.tokenize = tokenize
        self.clean = CleanReport(tokenize.official, min_words=1, letters=letters)
        self.device = next(network.parameters()).device

    def read_text(self, text: str) -> dict[str, torch.Tensor]:
        """A phrase or prompt as the network reads it, after the cleaning of reports.

        Args:
            text: of one word or more.

        Returns:
            what :class:`monai_mgca.transforms.TokenizeReport` gives.

        Raises:
            DataError: when no word is left, no word is known to the tokenizer, or there are more than it may read.
        """
        tokens, unknown = self._read(text)
        if unknown:
            logger.warning(f"Of {text!r} the report encoder does not know: {', '.join(unknown)}.")
        return tokens

    def knows(self, text: str) -> bool:
        """Whether a phrase can be read whole: it has words, the tokenizer knows all, and they are not too many."""
        try:
            return not self._read(text)[1]
        except DataError:
            return False

    def _read(self, text: str, private: bool = False) -> tuple[dict[str, torch.Tensor], list[str]]:
        """A text's tokens, and its words that the tokenizer does not know."""
        name = "A phrase of the data" if private else f"The text {text!r}"
        sentences = self.clean(text)
        if not sentences:
            raise DataError(f"{name} has no word: write a finding as reports do, 'left pleural effusion'.")
        unknown, length = self._look_up(" ".join(sentences))
        if unknown is None:
            of = "a phrase of the data" if private else repr(text)
            raise DataError(f"The report encoder knows no word of {of}: use words of the reports it learned from.")
        # each sentence has a full stop besides, and the report its two marks
        length, limit = length + len(sentences) + 2, self.tokenize.max_length
        if length > limit:
            begins = "in the data" if private else f"that begins {text[:40]!r}"
            raise DataError(
                f"The text of {length} word pieces {begins} is longer than the {limit} that the network was trained "
                "on: shorten it."
            )
        return self.tokenize(sentences), unknown

    def _look_up(self, text: str) -> tuple[list[str] | None, int]:
        """The words that the tokenizer does not know, None for all of them, and the number of word pieces."""
        ids, found, spans = self.tokenize.pieces(text)
        unk_id = self.tokenize.tokenizer.unk_token_id
        pieces = Counter(word for word in found if word is not None)
        unk = {word for word, piece in zip(found, ids, strict=True) if word is not None and piece == unk_id}
        places: dict[int, list[int]] = {}
        for word, span in zip(found, spans, strict=True):
            if word is not None and span is not None:
                places.setdefault(word, []).extend(span)
        words = {word: text[min(place) : max(place)].strip() for word, place in places.items()}
        # every word can be spelled by its letters, but then nothing is known of it
        spelled = {word for word, name in words.items() if len(name) > 2 and len(name) / pieces[word] < 2}
        unknown = unk | spelled
        return (None if unknown == words.keys() else [words[word] for word in sorted(unknown)]), sum(map(bool, spans))

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str], private: bool = False) -> dict[str, torch.Tensor]:
        """
        Args:
            texts: N phrases, prompts or queries.
            private: they stand in the data, nobody typed them: no message holds a word of them.

        Returns:
            what :meth:`monai_mgca.networks.MGCA.encode_report` gives.

        Raises:
            DataError: as :meth:`read_text`.
        """
        items, unknown = zip(*(self._read(text, private) for text in texts), strict=True)
        if any(unknown) and private:
            logger.warning(
                f"{sum(map(bool, unknown))} of {len(texts)} phrases of the data have words that are unknown."
            )
        elif any(unknown):
            words = dict.fromkeys(word for some in unknown for word in some)
            of = f"{len(texts)} texts" if len(texts) > 1 else repr(texts[0])
            logger.warning(f"Of {of} the report encoder does not know: {', '.join(words)}.")
        return self.network.encode_report(
            *(torch.stack([item[key] for item in items]).to(self.device) for key in TOKENS)
        )

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """(N, D) unit vectors of N phrases, prompts or queries; errors as those of :meth:`read_text`."""
        return self.encode_texts(texts)[MGCAKeys.REPORT_EMBEDDING]

    @torch.no_grad()
    def read_report(self, report: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """One whole report, cut to the length that the network reads.

        Args:
            report: of one word or more.

        Returns:
            what :class:`monai_mgca.transforms.TokenizeReport` gives, and what
            :meth:`monai_mgca.networks.MGCA.encode_report` makes of it.

        Raises:
            DataError: when no word is left after the cleaning.
        """
        sentences = self.clean(report)
        if not sentences:
            raise DataError("The report has no word after cleaning.")
        tokens = self.tokenize(sentences)
        return tokens, self.network.encode_report(*(tokens[key][None].to(self.device) for key in TOKENS))

    @torch.no_grad()
    def embed_reports(self, reports: Sequence[str], batch_size: int = 32, description: str = "reports") -> torch.Tensor:
        """Whole reports, cut to the length that the network reads as in the training.

        Args:
            reports: N texts of three words or more, as a checked datalist has them.
            batch_size: reports at a time.
            description: text before the progress bar.

        Returns:
            (N, D) unit vectors on the CPU.
        """
        parts = []
        for start in progress_bar(range(0, len(reports), batch_size), description):
            items = [self.tokenize(self.clean(report)) for report in reports[start : start + batch_size]]
            length = max(int(item["attention_mask"].sum()) for item in items)
            tokens = (torch.stack([item[key][:length] for item in items]).to(self.device) for key in TOKENS)
            parts.append(self.network.encode_report(*tokens)[MGCAKeys.REPORT_EMBEDDING].cpu())
        return torch.cat(parts)

    def report_tokens(self, reports: Sequence[str]) -> torch.Tensor:
        """(N, L) token ids of whole reports, by which :func:`monai_mgca.metrics.compute_retrieval` knows equal ones."""
        return torch.stack([self.tokenize(self.clean(report))["input_ids"] for report in reports])

    def load_images(
        self, images: Sequence[ImageLike], batch_size: int | None = None, description: str = "images"
    ) -> Iterator[torch.Tensor]:
        """Batches of images, loaded by threads: an error keeps its cause, which names the file.

        Args:
            images: PNG, JPEG, DICOM or NIfTI files; of volumes NIfTI files and folders of DICOM series. In place of a
                path an entry of a datalist may stand.
            batch_size: images at a time; 32 unless given, of volumes 4, of which two are loaded at once.
            description: text before the progress bar.

        Yields:
            (B, in_channels, H, W[, D]) on the network's device.
        """
        with image_batches(images, self.image_transform, self.spatial_dims, batch_size) as batches:
            for number in progress_bar(range(len(batches)), description):
                yield batches[number][CommonKeys.IMAGE].to(self.device)

    @torch.no_grad()
    def embed_images(
        self, images: Sequence[ImageLike], batch_size: int | None = None, description: str = "images"
    ) -> torch.Tensor:
        """(N, D) unit vectors of N images, on the CPU; arguments as those of :meth:`load_images`."""
        embed = self.network.image_embedder()
        return torch.cat([embed(batch).cpu() for batch in self.load_images(images, batch_size, description)])


def load_pretrained(
    checkpoint: str | os.PathLike, device: torch.device | str | None = None, random: bool = False
) -> PretrainedModel:
    """Build the network of a pretraining from the settings of its weights, and load them.

    Args:
        checkpoint: ``model_pretrain.pt`` of a training.
        device: where to compute; a GPU if there is one.
        random: leave the weights as they are made, from torch's seed; an encoder of reports that was pretrained
            elsewhere keeps those. Against it one sees what the pretraining gave.

    Raises:
        CheckpointError: when a file is missing, or the weights are of another architecture.
        DataError: when the reports' encoder or tokenizer is no longer where it was.

    Example::

        model = load_pretrained("bundles/mgca/models/model_pretrain.pt")
    """
    settings = read_model_settings(checkpoint, required=True)
    with naming_settings(checkpoint):
        transform = image_transform(settings)
        network = build_network(settings, checkpoint, random)
    if not random:
        load_network(network, checkpoint)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    official = bool(settings.get("official_quirks"))
    tokenize = TokenizeReport(settings["report_encoder"], settings["max_length"], official)
    letters = settings.get("report_letters", "ascii")
    calibration = None if random else read_calibration(checkpoint)
    return PretrainedModel(network.to(device), transform, tokenize, letters, settings, calibration)
