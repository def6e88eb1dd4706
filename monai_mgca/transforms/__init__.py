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

from .box import (
    MapBoxesD,
    MapBoxesd,
    MapBoxesDict,
    RememberAffineD,
    RememberAffined,
    RememberAffineDict,
    RestoreBoxesD,
    RestoreBoxesd,
    RestoreBoxesDict,
    map_boxes,
    restore_boxes,
)
from .encode import EncodeReportd
from .labels import (
    ResolveUncertainLabels,
    ResolveUncertainLabelsD,
    ResolveUncertainLabelsd,
    ResolveUncertainLabelsDict,
)
from .radiograph import LoadRadiograph, LoadRadiographD, LoadRadiographd, LoadRadiographDict
from .readers import RadiographDicomReader, RadiographNiftiReader
from .report import CleanReport, CleanReportD, CleanReportd, CleanReportDict
from .sentences import RandSelectSentencesD, RandSelectSentencesd, RandSelectSentencesDict
from .tokenize import TokenizeReport, TokenizeReportD, TokenizeReportd, TokenizeReportDict

__all__ = [
    "CleanReport",
    "CleanReportD",
    "CleanReportDict",
    "CleanReportd",
    "EncodeReportd",
    "LoadRadiograph",
    "LoadRadiographD",
    "LoadRadiographDict",
    "LoadRadiographd",
    "MapBoxesD",
    "MapBoxesDict",
    "MapBoxesd",
    "RadiographDicomReader",
    "RadiographNiftiReader",
    "RandSelectSentencesD",
    "RandSelectSentencesDict",
    "RandSelectSentencesd",
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
    "TokenizeReport",
    "TokenizeReportD",
    "TokenizeReportDict",
    "TokenizeReportd",
    "map_boxes",
    "restore_boxes",
]
