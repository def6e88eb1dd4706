# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The metadata of the bundle's networks against the schema that MONAI publishes at the address in them.

Each network has a file of its own, because MONAI's exporters put a whole file into what they write.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path

import jsonschema
import pytest
from monai.bundle import ConfigParser, verify_metadata

from monai_mgca.data.sample.volumes import VOLUME_CLASSES

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "mgca" / "configs"
SCHEMA = Path(__file__).with_name("meta_schema_20240725.json")
RULES = json.loads(SCHEMA.read_text())
DOCUMENTS = {path.stem: json.loads(path.read_text()) for path in sorted(CONFIGS.glob("metadata*.json"))}
DOCUMENT = DOCUMENTS["metadata"]
FORMAT = "network_data_format"
# what the zoo's bundles have beside the schema's names
BESIDE = {"name"}
# what is a network's own
OWN = {"name", "task", "data_type", "image_classes", "pred_classes", "label_classes", FORMAT}


def errors(document):
    kind = jsonschema.validators.validator_for(RULES)
    kind.check_schema(RULES)
    return [error.message for error in kind(RULES).iter_errors(document)]


def test_every_network_has_one():
    tasks = [
        f"metadata_{task}{of}" for task in ("classification", "detection", "segmentation") for of in ("", "_volume")
    ]
    assert list(DOCUMENTS) == ["metadata", *tasks, "metadata_volume"]
    assert len({document["name"] for document in DOCUMENTS.values()}) == len(DOCUMENTS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_errors(name, tmp_path):
    assert errors(DOCUMENTS[name]) == []
    shutil.copy(SCHEMA, tmp_path)  # MONAI reads the file where it is there, and else fetches it
    verify_metadata(meta_file=str(CONFIGS / f"{name}.json"), filepath=str(tmp_path / SCHEMA.name))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_rest_is_the_same(name):
    pattern, own = ({k: v for k, v in d.items() if k not in OWN} for d in (DOCUMENT, DOCUMENTS[name]))
    assert own == pattern
    assert own["version"] in own["changelog"]


def test_address_is_that_of_the_schema():
    assert DOCUMENT["schema"].rpartition("/")[2] == SCHEMA.name


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_name_is_one_of_the_schema(name):
    """The schema takes any other name too, so that a misspelled one would be no error."""
    document, patterns = DOCUMENTS[name], list(RULES["patternProperties"])
    unknown = {
        key for key in document if key not in RULES["properties"] and not any(re.match(p, key) for p in patterns)
    }
    assert unknown == BESIDE
    assert [key for key in document if key.endswith("_data_format")] == [FORMAT]
    tensor = set(RULES["$defs"]["tensor"]["properties"]) | {"modality"}  # of the specification
    assert document[FORMAT].keys() <= RULES["$defs"]["network_io"]["properties"].keys()
    for side in document[FORMAT].values():
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


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_tensor_that_is_not_described_in_full_is_an_error(name):
    for side, values in DOCUMENTS[name][FORMAT].items():
        for tensor in values:
            for key in RULES["$defs"]["tensor"]["required"]:
                document = copy.deepcopy(DOCUMENTS[name])
                del document[FORMAT][side][tensor][key]
                assert errors(document)


@pytest.mark.parametrize("task", ["segmentation", "detection", "classification"])
def test_classes_are_those_of_the_sample(task):
    """Which are also those of an inference without a training, on which MONAI's checks run."""
    parser = ConfigParser(ConfigParser.load_config_file(str(CONFIGS / f"inference_{task}.json")))
    parser["bundle_root"] = "nowhere"
    classes = parser.get_parsed_content("classes")
    channels = list(DOCUMENTS[f"metadata_{task}"][FORMAT]["outputs"]["pred"]["channel_def"].values())
    assert channels[: len(classes)] == classes
    assert len(channels) == len(classes) + (4 if task == "detection" else 0)


@pytest.mark.parametrize(
    ("task", "classes", "shifts"),
    [("segmentation", ["lung"], 0), ("classification", VOLUME_CLASSES, 0), ("detection", VOLUME_CLASSES, 6)],
)
def test_classes_of_volumes_are_those_of_their_sample(task, classes, shifts):
    output = DOCUMENTS[f"metadata_{task}_volume"][FORMAT]["outputs"]["pred"]
    channels = list(output["channel_def"].values())
    assert channels[: len(classes)] == list(classes)
    assert len(channels) == len(classes) + shifts == output["num_channels"]
