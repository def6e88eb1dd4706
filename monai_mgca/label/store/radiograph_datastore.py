# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A folder of radiographs as MONAI Label's local datastore."""

from __future__ import annotations

from monai_mgca.label.client_names import image_names
from monai_mgca.label.store.folder_datastore import FolderDatastore

__all__ = ["RadiographDatastore"]


class RadiographDatastore(FolderDatastore):
    """A folder of radiographs as MONAI Label's local datastore; see :class:`FolderDatastore`.

    DICOM, with or without a suffix, PNG, JPEG, TIFF ... and NIfTI (W, H) or (W, H, 1) files
    (:func:`monai_mgca.io.kind_of`) are radiographs; folders in it are not searched.
    """

    def names_in(self, folder: str) -> list[str]:
        """As :meth:`FolderDatastore.names_in`."""
        return image_names(folder)
