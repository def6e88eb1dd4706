# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""A server of DICOMweb that lives in memory, and masks to send to it."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from fastapi import HTTPException

from monai_mgca.label.store.pacs_client import Pacs
from monai_mgca.label.store.pacs_datastore import RadiographDICOMWebDatastore

pydicom = pytest.importorskip("pydicom")
requests = pytest.importorskip("requests")
CANARY = "Canarywordium"


class FakeClient:
    """What a DICOMweb client can do, on a list of datasets."""

    base_url = "http://pacs.example/dicom-web"

    def __init__(self, *kept):
        self.kept, self.asked, self.down, self.refuses = list(kept), [], False, False

    def _found(self, name, filters):
        self.asked.append(name)
        if self.down:
            raise requests.ConnectionError(f"http://pacs.example/{CANARY}")
        return [one for one in self.kept if all(str(one.get(key)) == value for key, value in filters.items())]

    def search_for_series(self, search_filters):
        series = {one.SeriesInstanceUID: one for one in self._found("series", search_filters)}
        return [self._json(one) for one in series.values()]

    def search_for_instances(self, study, series):
        return [self._json(one) for one in self._found("instances", {"SeriesInstanceUID": series})]

    def retrieve_series_metadata(self, study, series):
        return [self._json(one) for one in self._found("metadata", {"SeriesInstanceUID": series})]

    def retrieve_instance(self, study, series, instance):
        (one,) = self._found("instance", {"SeriesInstanceUID": series, "SOPInstanceUID": instance})
        return one

    def store_instances(self, datasets):
        answer = pydicom.Dataset()
        if self.refuses:
            failed = pydicom.Dataset()
            failed.FailureReason = 0xA700
            answer.FailedSOPSequence = [failed]
            return answer
        for data in datasets:
            buffer = BytesIO()
            pydicom.dcmwrite(buffer, data)
            buffer.seek(0)
            self.kept.append(pydicom.dcmread(buffer))
        return answer

    def _json(self, data):
        return {key: value for key, value in data.to_json_dict().items() if key != "7FE00010"}


def open_pacs(cache, client, filters=({"Modality": "CR"}, {"Modality": "DX"}), lifetime=0.0):
    return RadiographDICOMWebDatastore(Pacs(client, filters, lifetime), cache)


def refused(code, attempt, message=""):
    with pytest.raises(HTTPException, match=message) as error:
        attempt()
    assert error.value.status_code == code
    assert CANARY not in error.value.detail
    return error.value.detail


def mask_of(size, *values):
    """(H, W), a block of each value."""
    mask = np.zeros(size[::-1], np.uint8)
    for number, value in enumerate(values):
        mask[3 + 8 * number : 9 + 8 * number, 2 : 20 + number] = value
    return mask
