# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from .dicom.series_tags import describes_image, no_image, series_problem
from .dicom_reader import RadiographDicomReader
from .find_files import FoundFiles, find_image_files, list_files, refuse_same_names
from .kind import IMAGE_SUFFIXES, Kind, is_clutter, kind_of, kind_of_name, quick_kind, stem_of
from .nifti_reader import RadiographNiftiReader
from .run_lengths import decode_rle, decode_siim, encode_rle

__all__ = [
    "IMAGE_SUFFIXES",
    "FoundFiles",
    "Kind",
    "RadiographDicomReader",
    "RadiographNiftiReader",
    "decode_rle",
    "decode_siim",
    "describes_image",
    "encode_rle",
    "find_image_files",
    "is_clutter",
    "kind_of",
    "kind_of_name",
    "list_files",
    "no_image",
    "quick_kind",
    "refuse_same_names",
    "series_problem",
    "stem_of",
]
