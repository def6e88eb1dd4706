# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Asks a PACS by DICOMweb: studies, series, instances, and storing."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pydicom
from fastapi import HTTPException
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMwebClientX
from requests import RequestException, Session

if TYPE_CHECKING:
    from dicomweb_client import DICOMwebClient
    from pydicom import Dataset


__all__ = ["Pacs", "Series", "is_uid", "open_pacs"]

LIFETIME = 30  # seconds for which a list is not asked for again
TIMEOUT = (10, 120)  # seconds to connect, and between two parts of an answer

T = TypeVar("T")
UID = re.compile(r"(?=.{1,64}$)(0|[1-9]\d*)(\.\d+)+", re.ASCII)


def is_uid(name: Any) -> bool:
    """Whether a name is a DICOM UID, and so harmless as the name of a file.

    Example::

        print(is_uid("1.2.840.10008.1.1"), is_uid("../1.2"))  # True False
    """
    return isinstance(name, str) and UID.fullmatch(name) is not None


@dataclass(frozen=True)
class Series:
    """A series of the PACS: its UIDs and its modality, nothing of the patient.

    Args:
        uid: SeriesInstanceUID.
        study: StudyInstanceUID.
        modality: such as "CR".
    """

    uid: str
    study: str
    modality: str


class Pacs:
    """What we ask a DICOMweb server: which images and segmentations it has, for one of them, and to keep one.

    What it lists is remembered for a moment. When it does not answer, or refuses, an HTTP error 502 says so.

    Args:
        client: of the server.
        filters: QIDO-RS filters; a series that any of them finds is a radiograph's, or a volume.
        lifetime: for how many seconds a list is not asked for again.
    """

    def __init__(self, client: DICOMwebClient, filters: Sequence[dict[str, Any]], lifetime: float = LIFETIME) -> None:
        self.client, self.filters, self.lifetime = client, list(filters), lifetime
        self._lists: dict[str, tuple[float, Any]] = {}
        self._sources: dict[str, tuple[str, str]] = {}

    def listed(self) -> dict[str, Series]:
        """The series of the filters, by their UID."""

        def ask() -> dict[str, Series]:
            return {one.uid: one for wanted in self.filters for one in self._search(wanted)}

        return self._remember("listed", ask)

    def find(self, uid: str) -> Series | None:
        """The series of that UID, also one that has just come; None when the filters find none."""
        if not is_uid(uid):
            return None
        if uid not in self.listed():
            for wanted in self.filters:
                for one in self._search({**wanted, "SeriesInstanceUID": uid}):
                    if one.uid == uid:
                        self.listed()[uid] = one
        return self.listed().get(uid)

    def segmentations(self) -> dict[str, Series]:
        """The newest DICOM SEG of each series that has one, by the UID of the series that it segments."""

        def ask() -> dict[str, Series]:
            newest: dict[str, tuple[str, Series]] = {}
            studies = {one.study for one in self.listed().values()}  # a PACS has many of other images
            for one in self._search({"Modality": "SEG"}):
                if one.study not in studies:
                    continue
                if one.uid not in self._sources:
                    self._sources[one.uid] = self._source_of(one)
                source, when = self._sources[one.uid]
                if source and when >= newest.get(source, ("", one))[0]:
                    newest[source] = when, one
            return {source: one for source, (_, one) in newest.items()}

        return self._remember("segmentations", ask)

    def forget(self) -> None:
        """Ask for the lists again next time."""
        self._lists.clear()

    def only_instance(self, series: Series) -> Dataset:
        """Fetch the one instance of a series.

        Raises:
            HTTPException: 400, when there are several.
        """
        with asking():
            found = self.client.search_for_instances(series.study, series.uid)
            if len(found) != 1:
                raise HTTPException(
                    400,
                    f"The series {series.uid} holds {len(found)} images: one radiograph a series can be annotated.",
                )
            instance = str(_dataset(found[0]).SOPInstanceUID)
            return self.client.retrieve_instance(series.study, series.uid, instance)

    def instances(self, series: Series) -> Iterator[Dataset]:
        """Fetch all instances of a series, one after the other, as they are stored: compressed ones stay so.

        Raises:
            HTTPException: 502, when the server stops answering.
        """
        with asking():
            yield from self.client.iter_series(series.study, series.uid, (("application/dicom", "*"),))

    def store(self, data: Dataset) -> None:
        """Have an instance kept.

        Raises:
            HTTPException: 502, when the server does not take it.
        """
        with asking():
            answer = self.client.store_instances([data])
        if refused := answer.get("FailedSOPSequence"):
            reason = refused[0].get("FailureReason", 0)
            raise HTTPException(502, f"The DICOMweb server does not keep the DICOM SEG (failure reason {reason:04X}).")
        self.forget()

    def _search(self, wanted: dict[str, Any]) -> Iterator[Series]:
        with asking():
            found = self.client.search_for_series(search_filters=dict(wanted))
        for one in map(_dataset, found):
            series = Series(*(str(one.get(key, "")) for key in ("SeriesInstanceUID", "StudyInstanceUID", "Modality")))
            if is_uid(series.uid) and is_uid(series.study):
                yield series

    def _source_of(self, series: Series) -> tuple[str, str]:
        """The series that a DICOM SEG segments, or nothing, and when it was made."""
        with asking():
            found = self.client.retrieve_series_metadata(series.study, series.uid)
        data = _dataset(found[0] if found else {})
        sources = data.get("ReferencedSeriesSequence")
        source = str(sources[0].get("SeriesInstanceUID", "")) if sources else ""
        return source, "".join(str(data.get(key) or "") for key in ("ContentDate", "ContentTime"))

    def _remember(self, name: str, ask: Callable[[], T]) -> T:
        asked, found = self._lists.get(name, (0.0, None))
        if found is None or time.monotonic() - asked > self.lifetime:
            found = ask()
            self._lists[name] = time.monotonic(), found
        return found


def open_pacs(url: str, spatial_dims: int = 2) -> Pacs:
    """Open a DICOMweb server as MONAI Label's own environment variables say.

    ``MONAI_LABEL_DICOMWEB_USERNAME`` and ``_PASSWORD``; ``MONAI_LABEL_QIDO_PREFIX``, ``WADO`` and ``STOW``;
    ``MONAI_LABEL_DICOMWEB_SEARCH_FILTER``, whose "Modality" may be a list, and whose default, CT, stands for CR and DX
    where studies are radiographs; ``MONAI_LABEL_DICOMWEB_CACHE_EXPIRY``, the seconds for which a list is not asked for
    again, at most 30.

    Args:
        url: of the server.
        spatial_dims: 3 where studies are volumes.
    """
    session = _Session()
    if settings.MONAI_LABEL_DICOMWEB_USERNAME and settings.MONAI_LABEL_DICOMWEB_PASSWORD:
        session.auth = (settings.MONAI_LABEL_DICOMWEB_USERNAME, settings.MONAI_LABEL_DICOMWEB_PASSWORD)
    client = DICOMwebClientX(
        url=url.strip().rstrip("/"),
        session=session,
        qido_url_prefix=settings.MONAI_LABEL_QIDO_PREFIX,
        wado_url_prefix=settings.MONAI_LABEL_WADO_PREFIX,
        stow_url_prefix=settings.MONAI_LABEL_STOW_PREFIX,
    )
    client.set_http_retry_params(max_attempts=2, wait_exponential_multiplier=250)  # by default half a minute of them
    lifetime = min(settings.MONAI_LABEL_DICOMWEB_CACHE_EXPIRY, LIFETIME)
    return Pacs(client, _filters(settings.MONAI_LABEL_DICOMWEB_SEARCH_FILTER, spatial_dims), lifetime)


@contextmanager
def asking() -> Iterator[None]:
    """That the server does not answer, or refuses, becomes an answer to our own client."""
    try:
        yield
    except RequestException as error:
        response = getattr(error, "response", None)
        what = (
            f"answers {response.status_code}" if response is not None else f"does not answer ({type(error).__name__})"
        )
        raise HTTPException(502, f"The DICOMweb server {what}.") from None


def _dataset(found: dict[str, Any]) -> Dataset:
    return pydicom.Dataset.from_json(found, bulk_data_uri_handler=lambda _address: b"")


def _filters(search_filter: Mapping[str, Any], spatial_dims: int = 2) -> list[dict[str, Any]]:
    wanted = dict(search_filter)
    if wanted == {"Modality": "CT"} and spatial_dims == 2:  # MONAI Label's default
        wanted = {"Modality": ["CR", "DX"]}
    modalities = wanted.get("Modality")
    return [{**wanted, "Modality": name} for name in modalities] if isinstance(modalities, list) else [wanted]


class _Session(Session):
    """A server that hangs does not hang ours."""

    def request(self, *args: Any, timeout: Any = None, **kwargs: Any) -> Any:
        return super().request(*args, **{**kwargs, "timeout": timeout or TIMEOUT})
