# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The sizes in which images are stored, for sources whose boxes or masks need them."""

from __future__ import annotations

import os
from collections.abc import Iterable

from monai_mgca.data.annotations import image_size
from monai_mgca.data.paths import file_problem
from monai_mgca.data.sources.collection import Collection
from monai_mgca.utils import DataError
from monai_mgca.utils.progress import list_problems, map_in_threads

__all__ = ["read_sizes"]


def read_sizes(collection: Collection, images: Iterable[str]) -> dict[str, tuple[int, int] | None]:
    """Read the sizes of a collection's images, which run lengths need.

    An image whose header cannot be read is dropped, and the first five are named in the collection's notes.

    Args:
        collection: what to drop from, and whose dataset folder the paths are relative to.
        images: paths.

    Returns:
        Path to (H, W); to None where there is no such file, which :meth:`Collection.write` reports.

    Example::

        from PIL import Image

        Image.new("L", (60, 40)).save("radiograph.png")
        print(read_sizes(Collection("by hand", "."), ["radiograph.png"]))  # {"radiograph.png": (40, 60)}
    """
    base, paths = os.path.realpath(collection.dataset_dir), list(images)

    def look(image: str) -> tuple[int, int] | str | None:
        try:
            return None if file_problem(base, image) else image_size(os.path.join(base, image))
        except DataError:
            return "unreadable"

    found = dict(zip(paths, map_in_threads(look, paths, "reading the images' sizes"), strict=True))
    bad = [(image, size) for image, size in found.items() if isinstance(size, str)]
    if bad:
        collection.drop("image: unreadable", *(image for image, _ in bad))
        collection.notes.append(list_problems(f"{len(bad)} images", bad, "  (left out)", limit=5))
    return {image: size for image, size in found.items() if not isinstance(size, str)}
