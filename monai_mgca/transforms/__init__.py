# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

from __future__ import annotations

from .area_spacing import AreaSpacing, AreaSpacingD, AreaSpacingd, AreaSpacingDict
from .box import (
    MapBoxesD,
    MapBoxesd,
    MapBoxesDict,
    RememberAffineAgaind,
    RememberAffineD,
    RememberAffined,
    RememberAffineDict,
    RestoreBoxesD,
    RestoreBoxesd,
    RestoreBoxesDict,
    map_boxes,
    restore_boxes,
)
from .box_mask import (
    BoxesToMask,
    BoxesToMaskD,
    BoxesToMaskd,
    BoxesToMaskDict,
    MaskToBoxes,
    MaskToBoxesD,
    MaskToBoxesd,
    MaskToBoxesDict,
)
from .encode import EncodeReportd
from .invert import InvertProbabilitiesd
from .labels import (
    ResolveUncertainLabels,
    ResolveUncertainLabelsD,
    ResolveUncertainLabelsd,
    ResolveUncertainLabelsDict,
)
from .mask import LoadMask, LoadMaskD, LoadMaskd, LoadMaskDict
from .preprocessing import compare_preprocessing, describe_preprocessing, restore_preprocessing, trained_preprocessing
from .radiograph import LoadRadiograph, LoadRadiographD, LoadRadiographd, LoadRadiographDict
from .readers import RadiographDicomReader, RadiographNiftiReader
from .report import CleanReport, CleanReportD, CleanReportd, CleanReportDict
from .rle import decode_rle, decode_siim, encode_rle
from .save_mask import SaveMaskD, SaveMaskd, SaveMaskDict
from .sentences import RandSelectSentencesD, RandSelectSentencesd, RandSelectSentencesDict
from .tokenize import TokenizeReport, TokenizeReportD, TokenizeReportd, TokenizeReportDict
from .volume import LoadVolume, LoadVolumeD, LoadVolumed, LoadVolumeDict

__all__ = [
    "AreaSpacing",
    "AreaSpacingD",
    "AreaSpacingDict",
    "AreaSpacingd",
    "BoxesToMask",
    "BoxesToMaskD",
    "BoxesToMaskDict",
    "BoxesToMaskd",
    "CleanReport",
    "CleanReportD",
    "CleanReportDict",
    "CleanReportd",
    "EncodeReportd",
    "InvertProbabilitiesd",
    "LoadMask",
    "LoadMaskD",
    "LoadMaskDict",
    "LoadMaskd",
    "LoadRadiograph",
    "LoadRadiographD",
    "LoadRadiographDict",
    "LoadRadiographd",
    "LoadVolume",
    "LoadVolumeD",
    "LoadVolumeDict",
    "LoadVolumed",
    "MapBoxesD",
    "MapBoxesDict",
    "MapBoxesd",
    "MaskToBoxes",
    "MaskToBoxesD",
    "MaskToBoxesDict",
    "MaskToBoxesd",
    "RadiographDicomReader",
    "RadiographNiftiReader",
    "RandSelectSentencesD",
    "RandSelectSentencesDict",
    "RandSelectSentencesd",
    "RememberAffineAgaind",
    "RememberAffineD",
    "RememberAffineDict",
    "RememberAffined",
    "ResolveUncertainLabels",
    "ResolveUncertainLabelsD",
    "ResolveUncertainLabelsDict",
    "ResolveUncertainLabelsd",
    "RestoreBoxesD",
    "RestoreBoxesDict",
    "RestoreBoxesd",
    "SaveMaskD",
    "SaveMaskDict",
    "SaveMaskd",
    "TokenizeReport",
    "TokenizeReportD",
    "TokenizeReportDict",
    "TokenizeReportd",
    "decode_rle",
    "decode_siim",
    "compare_preprocessing",
    "describe_preprocessing",
    "encode_rle",
    "map_boxes",
    "restore_boxes",
    "restore_preprocessing",
    "trained_preprocessing",
]
