# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The settings that weights carry: how their network is built and fed."""

from __future__ import annotations

import json
import logging
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai_mgca.utils.errors import CheckpointError, DataError, first_cause
from monai_mgca.utils.files import parse_json, read_settings

__all__ = ["add_settings", "naming_settings", "read_model_settings", "refuse_sample"]

logger = logging.getLogger(__name__)

RECORD = "mgca_settings.json"
# how the name of a report encoder's copy beside the weights begins
COPY = "report_encoder-"
# of settings that are read; a class has a name, a transform some arguments
LONGEST = 2**24


def add_settings(path: str | os.PathLike, settings: Mapping[str, Any]) -> None:
    """Put into a file of ``torch.save`` what the network needs to be built and fed, so that both are one.

    ``torch.load`` gives the same as without: the settings are one more member of the archive that the file is.

    Args:
        path: of a file that ``torch.save`` wrote.
        settings: plain values.

    Example::

        torch.save({"weight": torch.zeros(2)}, "model.pt")
        add_settings("model.pt", {"image_size": 224})
        print(read_model_settings("model.pt"))  # {'image_size': 224}
    """
    with zipfile.ZipFile(path, "a") as archive:
        folder = archive.namelist()[0].partition("/")[0]
        # without the time of writing: the same weights and settings are the same bytes
        archive.writestr(zipfile.ZipInfo(f"{folder}/{RECORD}"), _as_text(settings))


def _as_text(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, indent=2) + "\n"


def read_model_settings(weights: str | os.PathLike, name: str = "model.json", required: bool = False) -> dict[str, Any]:
    """How the network of some weights is built and fed: what the training put into their file, or beside it.

    What is in the file of the weights is of these weights. The JSON file beside them says the same, for people; where
    it says something else, as after a training that was killed between both, it is not obeyed, and the log says so.
    Of weights without settings in them, such as converted ones, the JSON file is the only source.

    Args:
        weights: of a training: ``model.pt``, ``model_pretrain.pt``, ``model_segmentation.pt`` or alike.
        name: of the JSON file in the same folder.
        required: refuse weights without settings, which else have none.

    Returns:
        The settings; a folder named in them by "report_encoder" is found from any place.

    Raises:
        CheckpointError: when required settings are missing, or are not JSON.

    Example::

        torch.save({"weight": torch.zeros(2)}, "model.pt")
        print(read_model_settings("model.pt"))  # {}
    """
    weights = Path(weights)
    beside = weights.parent / name
    settings = _settings_inside(weights)
    if settings is None and required and not weights.is_file() and not beside.is_file():
        raise CheckpointError(f"There is no checkpoint file '{weights}': check the path, or train first.")
    if settings is None:
        settings = read_settings(beside, required)
    elif beside.is_file():
        _compare(settings, weights, beside)
    if not isinstance(settings, Mapping):
        raise CheckpointError(f"{beside} holds no settings by name: take the one of the training again.")
    encoder = settings.get("report_encoder")
    return {**settings, "report_encoder": find_beside(weights, encoder)} if isinstance(encoder, str) else {**settings}


@contextmanager
def naming_settings(weights: str | os.PathLike, name: str = "model.json") -> Iterator[None]:
    """An error while a network is made from the settings of its weights names these settings.

    Args:
        weights: of a training.
        name: of the JSON file in the same folder.

    Raises:
        CheckpointError: when no network can be made of them; an error that names a file already is left as it is.

    Example::

        with naming_settings("models/model.pt"):
            settings = {"in_channels": 1}["in_channels"]
    """
    try:
        yield
    except Exception as error:
        cause = first_cause(error)
        if isinstance(cause, (DataError, CheckpointError, OSError)):
            raise
        kind, beside = type(cause).__name__, Path(weights).parent / name
        raise CheckpointError(
            f"The settings of {weights} make no network ({kind}: {cause}): they are in it or in {beside}; take both of "
            "one training again."
        ) from error


def refuse_sample(settings: Mapping[str, Any], dataset_dir: Any) -> None:
    """Refuse to measure a network of someone's own data on the built-in sample, which is taken where no data are given.

    Args:
        settings: of the weights.
        dataset_dir: as it was given.

    Raises:
        DataError: when it is None, and the weights are of other data than the sample.
    """
    if dataset_dir is None and settings.get("use_sample") is False:
        raise DataError(
            "These weights were trained on data of your own, and the built-in sample says nothing of them: give "
            "--dataset_dir, the folder of images with their datalist.json."
        )


def _settings_inside(weights: Path) -> dict[str, Any] | None:
    """What :func:`add_settings` put there; None for any other file."""
    try:
        with zipfile.ZipFile(weights) as archive:
            names = [name for name in archive.namelist() if name.rpartition("/")[2] == RECORD]
            if not names or archive.getinfo(names[-1]).file_size > LONGEST:
                return None
            text = archive.read(names[-1]).decode("utf-8")
    except (OSError, zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError):  # loading it gives the reason
        return None
    try:
        settings: dict[str, Any] = parse_json(text)
    except ValueError as error:
        raise CheckpointError(f"The settings in {weights} are not JSON ({error}): take the file again.") from None
    return settings


def _compare(settings: Mapping[str, Any], weights: Path, beside: Path) -> None:
    try:
        stored = read_settings(beside)
        if not isinstance(stored, Mapping):
            raise CheckpointError(f"{beside} holds no settings by name.")
    except CheckpointError as error:
        logger.warning(f"{error} The settings in {weights.name} are used.")
        return
    other = [key for key in {**settings, **stored} if key not in stored or settings.get(key, stored) != stored[key]]
    if other:
        logger.warning(
            f"{beside} is of other weights than {weights.name}, or was changed: {', '.join(other)}. The settings that "
            f"the training put into {weights.name} are used."
        )


def find_beside(weights: Path, folder: str) -> str:
    """The folder that settings name, by its place from the weights, from here, or from a folder above the weights.

    Args:
        weights: beside which the settings are.
        folder: as they name it.

    Returns:
        Its path; where it is not found, a hub's name as it is, and the place of what was copied beside the weights,
        which no hub is to be asked for.
    """
    if os.path.isabs(folder):
        return folder
    above = [Path(os.path.abspath(weights)).parent]
    places = [above[0] / folder, Path(folder), *(parent / folder for parent in above[0].parents)]
    missing = str(places[0]) if folder.startswith(COPY) else folder
    return next((os.path.abspath(place) for place in places if place.is_dir()), missing)
