# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Sessions of MONAI Label whose files stay in their folder."""

from __future__ import annotations

import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.utils.sessions import SessionInfo, Sessions

__all__ = ["ContainedSessions", "remove_old"]

# the UUIDs that MONAI Label gives
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class ContainedSessions(Sessions):
    """MONAI Label's sessions, for radiographs that a client sends and asks about: no id leads out of their folder.

    MONAI Label takes an id for a path, and removes the folder that it finds there when its file ``meta.info`` names an
    image that does not exist.
    """

    def get_session(self, session_id: str, *args: Any, **kwargs: Any) -> SessionInfo | None:
        """What is known of a session; None for what is no id."""
        return super().get_session(session_id, *args, **kwargs) if ID.fullmatch(session_id) else None

    def remove_expired(self) -> int:
        """Remove sessions that are past their time, and what a stopped upload left; gives how many."""
        expired = []
        for folder in filter(lambda path: ID.fullmatch(path.name), Path(self.store_path).glob("*")):
            info = self.get_session(folder.name, update_ts=False, fetch_cache=False)
            used = info.last_access_ts if info else folder.stat().st_mtime
            if time.time() - used > (info.expiry if info and info.expiry > 0 else self.expiry):
                expired.append(folder.name)
        for name in expired:
            self.remove_session(name)
        return len(expired)

    def remove_session(self, session_id: str) -> None:
        if ID.fullmatch(session_id):
            super().remove_session(session_id)

    def add_session(self, data_file: str, expiry: int = 0, uncompress: bool = False, **kwargs: Any) -> Any:
        """As MONAI Label's, but for archives, whose entries may be written anywhere.

        Raises:
            HTTPException: 400, for an archive that is to be unpacked.
        """
        if uncompress:
            raise HTTPException(400, "Archives are not unpacked: send the radiograph itself.")
        return super().add_session(data_file, expiry, **kwargs)


def remove_old(folder: Path, seconds: float) -> None:
    """Remove the files and folders of a folder that are older."""
    for path in folder.glob("*"):
        with suppress(OSError):  # another process was faster
            if time.time() - path.stat().st_mtime > seconds:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
