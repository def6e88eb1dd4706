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

from .find import FoundFiles, find_image_files, list_files, name_some, refuse_same_names
from .kind import IMAGE_SUFFIXES, Kind, is_clutter, kind_of, kind_of_name, quick_kind, stem_of
from .series import describes_image, no_image, series_problem

__all__ = [
    "IMAGE_SUFFIXES",
    "FoundFiles",
    "describes_image",
    "Kind",
    "find_image_files",
    "is_clutter",
    "kind_of",
    "kind_of_name",
    "list_files",
    "name_some",
    "no_image",
    "quick_kind",
    "refuse_same_names",
    "series_problem",
    "stem_of",
]
