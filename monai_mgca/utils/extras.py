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

from importlib.util import find_spec

from monai_mgca.utils.errors import DataError

__all__ = ["EXTRAS", "require_extra"]

# what each extra of setup.py brings that this package imports, by the names to import
EXTRAS = {"probe": ("sklearn", "matplotlib"), "faiss": ("faiss",)}


def require_extra(extra: str, what: str, *modules: str) -> None:
    """Refuse work that needs packages which are not installed, before it begins.

    Args:
        extra: of the package, which brings them.
        what: needs them, as a message begins.
        modules: the ones that are needed; all of the extra by default.

    Raises:
        DataError: naming what is missing and how to install it.

    Example::

        require_extra("probe", "The drawing", "matplotlib")
    """
    missing = [name for name in modules or EXTRAS[extra] if find_spec(name) is None]
    if missing:
        raise DataError(f'{what} needs {" and ".join(missing)}, not installed here: pip install "monai-mgca[{extra}]".')
