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
"""MONAI Label's web application without what lets pages of other sites in; ``monailabel start_server`` has it as it is.

``MGCA_ALLOWED_HOSTS``, names separated by commas, are those under which the server may be asked (default: any).
"""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

from fastapi import HTTPException
from fastapi.middleware.cors import CORSMiddleware
from monailabel.app import app
from monailabel.endpoints import datastore, infer
from starlette.middleware.trustedhost import TrustedHostMiddleware

__all__ = ["app"]


def read_object(text: str) -> dict[str, Any]:
    """What a client sent as "params" or "info".

    Raises:
        HTTPException: 400, when it is no JSON object; MONAI Label would answer that it failed itself.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise HTTPException(400, "params and info are a JSON object.")
    return found


for endpoints in (datastore, infer):
    endpoints.json = SimpleNamespace(loads=read_object, dumps=json.dumps)
# MONAI Label lets scripts of every site read every answer; Slicer needs no such leave, and OHIF is served from here
app.user_middleware = [layer for layer in app.user_middleware if layer.cls is not CORSMiddleware]
# a site can give its own name the address of this machine
app.add_middleware(TrustedHostMiddleware, allowed_hosts=os.environ.get("MGCA_ALLOWED_HOSTS", "*").split(","))
