# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""MONAI Label's list of images and labels, which lies among the studies: what of it is believed."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import HTTPException
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastoreModel

from monai_mgca.label.client_names import check_info, id_and_ending
from monai_mgca.label.guards import is_plain
from monai_mgca.label.store.held_folder import plain_name
from monai_mgca.utils import DataError

__all__ = ["is_name", "read_list"]


def read_list(content: bytes, is_image: Callable[[str, str], bool]) -> LocalDatastoreModel:
    """Read the list, less what no image or label here could have: it may be somebody's.

    Args:
        content: of ``datastore_v2.json``.
        is_image: whether an image here could have an id and an ending, see :func:`is_name`.

    Returns:
        The list. An id, tag or ending that would lead elsewhere is not in it, nor what could not be sent to a client.

    Raises:
        DataError: when it is no such list. Nothing of its content is reported, which may be another file's.

    Example::

        content = b'{"name": "", "description": "", "objects": {"../a": {"image": {"ext": ".png"}}}}'
        print(read_list(content, is_name).objects)  # {}
    """
    try:
        found = LocalDatastoreModel.model_validate_json(content)
    except ValueError:
        raise DataError("The list among the studies, datastore_v2.json, is none of MONAI Label's: remove it.") from None
    images = {id: image for id, image in found.objects.items() if is_image(id, image.image.ext)}
    for id, image in images.items():
        labels = {tag: label for tag, label in image.labels.items() if is_name(id, label.ext, tag)}
        believed = {tag: _believed(label) for tag, label in labels.items()}
        images[id] = ImageLabelModel(image=_believed(image.image), labels=believed)
    found.objects = images
    return found


def is_name(id: str, ending: str, *folders: str) -> bool:
    """Whether a file here, or in a folder of this name, could have this id.

    Args:
        id: of an image or label.
        ending: of its file.
        folders: names, from here.

    Example::

        print(is_name("a", ".png"), is_name("../a", ".png"))  # True False
    """
    name = f"{id}{ending}"
    try:
        for part in (name, *folders):
            plain_name(part)
    except DataError:
        return False
    return is_plain([name, *folders]) and id_and_ending(name)[0] == id


def _believed(item: DataModel) -> DataModel:
    """Without the information about it, where that could not be sent to a client."""
    try:
        check_info(item.info)
    except HTTPException:
        return DataModel(ext=item.ext)
    return item
