# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""MONAI Label's web application without what lets pages of other sites in; ``monailabel start_server`` has it as it is.

``MGCA_ALLOWED_HOSTS``, names separated by commas, are those under which the server may be asked (default: any), and
``MGCA_MAX_UPLOAD`` the MiB of a request (default: 200).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from types import SimpleNamespace
from typing import Any

from fastapi import HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse
from monailabel.app import app
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.endpoints import datastore, infer, logs, model, ohif, session, wsi_infer
from monailabel.utils.async_tasks import task as background
from monailabel.utils.async_tasks import utils as background_tasks
from monailabel.utils.others.generic import remove_file
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from monai_mgca.label.client_names import id_and_ending
from monai_mgca.label.guards import HALF, PlainText, SameSite, UploadLimit, answer_error, is_plain
from monai_mgca.label.store.pacs_endpoints import replace_proxy
from monai_mgca.label.task_lines import TaskLines

__all__ = ["app"]

ENDING = re.compile(r"[\w.-]{0,32}")
# characters; a system takes 131,072 bytes as a program's argument
LONGEST = 100_000
PLAIN = re.compile(r"[\w-][\w.-]*")
# MONAI Label's own
_run_inference, _basename = infer.run_inference, session.get_basename
_get_ohif, _get_session, _checksum = ohif.get_ohif, session.get_session, datastore.file_checksum
_download_dataset, _get_logs = datastore.download_dataset, logs.get_logs
_run_background_task = background.run_background_task


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
    if not is_plain(found):
        raise HTTPException(400, HALF)
    return found


def read_name(file: str) -> SimpleNamespace:
    """What MONAI Label asks of the name of a file that a client sent: its ending, which becomes part of another name.

    Raises:
        HTTPException: 400, when that could not be a file's.
    """
    ending = id_and_ending(os.path.basename(file))[1]
    if not ENDING.fullmatch(ending):
        raise HTTPException(400, "A file's ending is a few letters, such as .png or .nii.gz.")
    return SimpleNamespace(suffixes=[ending])


def base_name(file: str) -> str:
    """The name of a file of a session, without folders.

    Raises:
        HTTPException: 400, when no file could have it.
    """
    name = str(_basename(file))
    if "\0" in name or name in (".", "..") or len(name.encode()) > 255:
        raise HTTPException(400, "A file's name has at most 255 bytes, and is no folder's.")
    return name


def run_inference(
    tasks: Any, model: str, image: str, session_id: str, params: str, file: Any, label: Any, output: Any = None
) -> Any:
    """MONAI Label's own, which without an image would answer that it failed itself.

    Scribbles, the `label` of a request, are left out: no model of ours takes them.

    Raises:
        HTTPException: 400, when there is no image, or no PACS whose form the result could have.
    """
    if not (image or session_id or file):
        raise HTTPException(400, "image: name an image of the datastore, send a file, or name a session.")
    if output == "dicom_seg" and not isinstance(infer.app_instance().datastore(), DICOMWebDatastore):
        raise HTTPException(400, "output=dicom_seg needs a PACS: ask for output=image.")
    return _run_inference(tasks, model, image, session_id, params, file, None, output)


def get_session(session_id: str, update_ts: bool = False, image: bool = False) -> Any:
    """Of several files there is no one image to give.

    Raises:
        HTTPException: 400, when it is asked for.
    """
    answer = _get_session(session_id, update_ts, image)
    if isinstance(answer, FileResponse) and os.path.isdir(answer.path):
        raise HTTPException(400, "The session holds several files: a radiograph is one.")
    return answer


def get_ohif(path: str) -> FileResponse:
    """A file of OHIF, else its page: ``..`` is a folder, and on Windows ``..\\`` led to any file."""
    return _get_ohif(path if PLAIN.fullmatch(path) else "")


def file_checksum(file: str, algo: str) -> str:
    """As MONAI Label's.

    Raises:
        HTTPException: 400, for an algorithm that it does not know.
    """
    try:
        return _checksum(file, algo=algo)
    except ValueError as error:
        raise HTTPException(400, f"check_sum: {error}.") from None


def download_dataset(limit_cases: int | None = None) -> FileResponse:
    """All images with their labels in one file, which goes once it was sent."""
    answer = _download_dataset(limit_cases)
    answer.background = BackgroundTask(remove_file, answer.path)
    return answer


def get_logs(file: str, lines: int, *options: Any) -> Any:
    """The last lines of a log; a number that is too large for Python stands for all."""
    return _get_logs(file, min(lines, 10**6), *options)


def run_background_task(request: dict[str, Any], *options: Any) -> dict[str, Any]:
    """In a process of its own, which gets the request on its command line; that it cannot be started is raised here.

    Raises:
        HTTPException: 400, when no process could take it.
    """
    if not re.fullmatch(r"[\w,-]*", str(request.get("gpus") or "")) or len(json.dumps(request)) > LONGEST:
        raise HTTPException(400, f"gpus are numbers or all; a request has at most {LONGEST} characters.")
    return _run_background_task({**request, "gpus": str(request.get("gpus") or "all")}, *options)


async def report_failure(request: Request, error: Exception) -> JSONResponse:
    """An unexpected error is reported in a sentence as well; the log has it whole."""
    return JSONResponse({"detail": f"The request failed ({type(error).__name__}): the server's log says why."}, 500)


def run_program(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
    """``nvidia-smi``, which a machine without a GPU of NVIDIA lacks."""
    try:
        return subprocess.run(command, **options)
    except OSError:
        raise HTTPException(404, f"There is no {command[0]} on this machine.") from None


for endpoints in (datastore, infer):
    endpoints.json = SimpleNamespace(loads=read_object, dumps=json.dumps)
for endpoints in (datastore, infer, model, wsi_infer):
    endpoints.pathlib = SimpleNamespace(Path=read_name)
infer.run_inference = run_inference
session.get_basename, session.get_session = base_name, get_session
datastore.file_checksum, datastore.download_dataset = file_checksum, download_dataset
ohif.get_ohif, logs.get_logs = get_ohif, get_logs
logs.subprocess = SimpleNamespace(run=run_program, PIPE=subprocess.PIPE)
background.run_background_task = run_background_task
background_tasks.deque = TaskLines
replace_proxy()
app.add_exception_handler(AnyHTTPException, answer_error)
app.add_exception_handler(Exception, report_failure)
# MONAI Label lets scripts of every site read every answer; Slicer needs no such leave, and OHIF is served from here
app.user_middleware = [layer for layer in app.user_middleware if layer.cls is not CORSMiddleware]
app.add_middleware(PlainText)
app.add_middleware(UploadLimit, limit=int(os.environ.get("MGCA_MAX_UPLOAD", "200")) << 20)
app.add_middleware(SameSite)
# a site can give its own name the address of this machine
app.add_middleware(TrustedHostMiddleware, allowed_hosts=os.environ.get("MGCA_ALLOWED_HOSTS", "*").split(","))
