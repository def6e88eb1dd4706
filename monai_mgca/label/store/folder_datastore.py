# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A folder of studies as MONAI Label's local datastore, of whichever kind they are."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import HTTPException
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import DefaultLabelTag

from monai_mgca.io import IMAGE_SUFFIXES, is_clutter, kind_of_name
from monai_mgca.label.client_names import LABEL_SUFFIXES, check_names_of_images, id_and_ending, same
from monai_mgca.label.guards import is_plain
from monai_mgca.label.store.contained_store import LABELS, ContainedStore
from monai_mgca.label.store.held_folder import HeldFolder
from monai_mgca.utils import DataError

__all__ = ["FolderDatastore", "watching"]

logger = logging.getLogger(__name__)

_LABELS = {*IMAGE_SUFFIXES, *LABEL_SUFFIXES}


class FolderDatastore(ContainedStore, LocalDatastore):
    """A folder of studies as MONAI Label's local datastore: the radiographs' and the volumes' are made of it.

    Args:
        folder: of the studies. Labels go to ``labels/`` in it, MONAI Label's list to ``datastore_v2.json``, what we
            keep to ``.mgca/``.
        auto_reload: watch the folder for new files.
        read_only: leave the list as it is.

    Raises:
        DataError: when the folder does not exist, the place of our files in it is a link, or two images have one name
            but for the ending, case, width or blanks: it is the id.
    """

    def __init__(self, folder: str | os.PathLike, auto_reload: bool = False, read_only: bool = False) -> None:
        folder = os.path.realpath(folder)
        if not os.path.isdir(folder):
            raise DataError(f"studies: there is no folder {folder}.")
        check_names_of_images(folder, self.names_in(folder), self._to_id)
        for tag in (DefaultLabelTag.FINAL.value, DefaultLabelTag.ORIGINAL.value):  # MONAI Label would follow links
            with HeldFolder(folder, LABELS, tag) as labels:
                labels.remove_unfinished()
        with HeldFolder(folder) as studies:
            studies.remove_unfinished()
        try:
            super().__init__(folder, extensions=("*",), auto_reload=auto_reload, read_only=read_only)
        except HTTPException as error:
            raise DataError(f"studies: {error.detail}") from None
        if auto_reload:  # rsync, and whoever copies with care, gives a file its name at the end
            self._handler.on_moved = self._on_any_event

    @abstractmethod
    def names_in(self, folder: str) -> list[str]:
        """What the folder's images are called in it, sorted; :meth:`_to_id` makes ids of them.

        Args:
            folder: of the studies.
        """

    def _list_files(self, path: str, patterns: list[str]) -> dict[str, str]:
        if path != self._datastore.image_path():
            return _labels_in(path) if is_plain(os.path.basename(path)) and self._is_inside(path) else {}
        objects = self._datastore.objects.items()
        taken, names = {same(id): self._filename(id, known.image.ext) for id, known in objects}, []
        for name in self.names_in(path):
            if not is_plain(name):
                logger.warning(f"{name!a} is left out: its name is not UTF-8. Rename it.")
            elif (first := taken.setdefault(same(self._to_id(name)[0]), name)) == name:
                names.append(name)
            else:
                logger.warning(f"{name} is left out: its id is that of {first}. Rename it.")
        return {name: name for name in names}

    def _on_any_event(self, event: Any) -> None:
        names = [os.path.basename(os.fsdecode(path)) for path in (event.src_path, event.dest_path) if path]
        own = os.path.basename(self._datastore_config_path)
        if event.is_directory or all(is_clutter(name) or name.startswith(own) for name in names):
            return
        with watching():
            super()._on_any_event(event)

    def _on_modify_event(self, event: Any) -> None:
        """A file without a suffix shows what it is only when its content comes."""
        name = os.path.basename(os.fsdecode(event.src_path))
        if kind_of_name(name) is None and not self.knows(id_and_ending(name)[0]):
            self._on_any_event(event)
        with watching():
            super()._on_modify_event(event)

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """Pairs of image and label, without those that a link leads out of the folder."""
        pairs = super().datalist(full_path)
        return [pair for pair in pairs if all(map(self._is_inside, pair.values()))]


@contextmanager
def watching() -> Iterator[None]:
    """After an error nobody would watch any more."""
    try:
        yield
    except (HTTPException, OSError) as error:
        logger.warning(f"The folder of the studies cannot be read: {getattr(error, 'detail', error)}")


def _labels_in(folder: str) -> dict[str, str]:
    """Files of a tag; a folder or a pipe of such a name is none, and nobody waits for it."""
    try:
        found = os.listdir(folder)
    except OSError:  # it went since it was found
        return {}
    names = [name for name in found if id_and_ending(name)[1].lower() in _LABELS and not is_clutter(name)]
    return {name: name for name in names if os.path.isfile(os.path.join(folder, name))}
