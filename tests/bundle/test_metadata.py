# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The bundle's metadata against the schema that MONAI publishes at the address in them, which lies beside this file."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path

import jsonschema
import pytest
from monai.bundle import verify_metadata

METADATA = Path(__file__).resolve().parents[2] / "bundles" / "mgca" / "configs" / "metadata.json"
SCHEMA = Path(__file__).with_name("meta_schema_20240725.json")
DOCUMENT, RULES = (json.loads(path.read_text()) for path in (METADATA, SCHEMA))
FORMATS = [key for key in DOCUMENT if key.endswith("_data_format")]
# what the zoo's bundles have beside the schema's names
BESIDE = {"name"}


def errors(document):
    kind = jsonschema.validators.validator_for(RULES)
    kind.check_schema(RULES)
    return [error.message for error in kind(RULES).iter_errors(document)]


def test_no_errors(tmp_path):
    assert errors(DOCUMENT) == []
    shutil.copy(SCHEMA, tmp_path)  # MONAI reads the file where it is there, and else fetches it
    verify_metadata(meta_file=str(METADATA), filepath=str(tmp_path / SCHEMA.name))


def test_address_is_that_of_the_schema():
    assert DOCUMENT["schema"].rpartition("/")[2] == SCHEMA.name


def test_every_name_is_one_of_the_schema():
    """The schema takes any other name too, so that a misspelled one would be no error."""
    patterns = list(RULES["patternProperties"])
    unknown = {
        key for key in DOCUMENT if key not in RULES["properties"] and not any(re.match(p, key) for p in patterns)
    }
    assert unknown == BESIDE and len(FORMATS) == 4
    tensor = set(RULES["$defs"]["tensor"]["properties"]) | {"modality"}  # of the specification
    for name in FORMATS:
        assert DOCUMENT[name].keys() <= RULES["$defs"]["network_io"]["properties"].keys()
        for side in DOCUMENT[name].values():
            assert all(value.keys() <= tensor for value in side.values())


@pytest.mark.parametrize("name", RULES["required"])
def test_a_missing_name_is_an_error(name, tmp_path):
    document = {key: value for key, value in DOCUMENT.items() if key != name}
    assert errors(document) == [f"'{name}' is a required property"]
    (tmp_path / "metadata.json").write_text(json.dumps(document))
    shutil.copy(SCHEMA, tmp_path)
    if name != "schema":  # by which MONAI begins
        with pytest.raises(ValueError, match=name):
            verify_metadata(meta_file=str(tmp_path / "metadata.json"), filepath=str(tmp_path / SCHEMA.name))


@pytest.mark.parametrize("name", [key for key in DOCUMENT if key not in BESIDE])
def test_a_value_of_another_kind_is_an_error(name):
    assert errors({**DOCUMENT, name: 1})


@pytest.mark.parametrize("name", FORMATS)
def test_a_tensor_that_is_not_told_in_full_is_an_error(name):
    for side, values in DOCUMENT[name].items():
        for tensor in values:
            for key in RULES["$defs"]["tensor"]["required"]:
                document = copy.deepcopy(DOCUMENT)
                del document[name][side][tensor][key]
                assert errors(document)
