# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The cards for programs: what is measured stands in them under the names of their readers, and nothing else."""

import json

import pytest
from huggingface_hub import ModelCard

from monai_mgca.apps.card.machine_card import OPEN, atlas_card, hub_card, write_machine_cards

NAN = float("nan")
# names of https://atlas.rsna.org/schemas/2025-11/model.json, which takes no others
PLACES = {
    "Model": {"Name", "Link", "Indexing", "Descriptors", "Model properties", "Imaging", "Model performance"},
    "Descriptors": {
        *("Authors", "Comments", "Contact", "Date", "Ethical review", "Funding", "License", "Organizations"),
        *("References", "Version"),
    },
    "Indexing": {"Content", "RadLex", "SNOMED", "Keywords"},
    "Imaging": {"Modalities", "Procedures", "File format", "Resolution", "Comments"},
    "Model performance": {"Metrics", "Comments"},
    "Model properties": {
        *("Architecture", "Availability", "Clinical benefit", "Clinical workflow phase", "Decision threshold"),
        *("Degree of automation", "Indications for use", "Input", "Instructions", "Limitations", "Output"),
        *("Recommendation", "Regulatory information", "Reproducibility", "Sustainability", "Use", "User"),
    },
}
METRICS = {"recall", "area under the receiver operating characteristic curve", "balanced accuracy"}


@pytest.fixture
def values():
    """What a card was measured to be, of two entries with a patient and a report."""
    entries = [{"image": "/zzpath/1.png", "patient": "zzpatient", "report": "zzreport"}] * 2
    zero_shot = {"auroc": 0.81, "low": 0.7, "high": 0.9}
    return {
        "settings": {"weights": "model_pretrain.pt", "image encoder": "resnet50", "image size": "224"},
        "version": "0.1.0",
        "date": "2026-12-01",
        "section": "validation",
        "data": {"entries": entries, "counts": {"training": 8, "validation": 2}, "set": "ours", "hash": "sha256:ab"},
        "retrieval": {
            "rows": [("image to report", [0.5], 2), ("report to image", [0.25], 3), ("chance", [0.1], 9)],
            "ks": (5,),
        },
        "zero_shot": {"rows": [{"finding": "edema", **zero_shot}, {"finding": "mass", "auroc": NAN}], "note": ""},
        "negation": [{"finding": "edema", "sentence": 0.625, "low": 0.5, "high": 0.75}],
        "volumes": False,
    }


@pytest.mark.parametrize("volumes", [False, True])
def test_atlas(values, volumes):
    card = atlas_card(values | {"volumes": volumes})
    assert set(card) == {"$schema", "Model"}
    model = card["Model"]
    assert set(model) <= PLACES["Model"]
    for place, names in PLACES.items():
        assert set(model.get(place, {})) <= names
    assert set(model["Model performance"]["Metrics"]) == METRICS
    comments = model["Model performance"]["Comments"]
    assert "zero-shot, edema: 0.8100 (95 % interval 0.700 to 0.900)" in comments
    assert "2 pairs of the section validation of ours; pairs: training 8, validation 2; hash sha256:ab" in comments
    assert "mass" not in comments  # which has no figure
    assert ("Computed tomography (RID10321)" in model["Imaging"]["Modalities"]) == volumes


def test_what_only_people_know_is_left_out_of_the_one_and_named_in_the_other(values):
    model, text = atlas_card(values)["Model"], hub_card(values)
    for place, what in OPEN.items():
        *path, name = place.split(".")[1:]
        there = model
        for part in path:
            there = there[part]
        assert name not in there
        assert f"- {what} (ATLAS: {place})" in text


def test_hugging_face_reads_its_figures(values):
    card = ModelCard(hub_card(values))
    figures = {result.metric_name: (result.metric_type, result.metric_value) for result in card.data.eval_results}
    assert figures == {
        "image to report, recall at 5": ("recall", 0.5),
        "report to image, recall at 5": ("recall", 0.25),
        "zero-shot, edema": ("roc_auc", 0.81),
        "sentence against its negation, edema": ("balanced_accuracy", 0.625),
    }
    assert card.data.library_name == "monai"
    assert card.data.license is None
    assert "| zero-shot, edema | 0.8100 | 0.700 to 0.900 |" in card.text


def test_files_hold_nothing_of_a_patient(values, tmp_path):
    paths = write_machine_cards(tmp_path / "card.html", values)
    assert [path.rpartition("/")[2] for path in paths] == ["card.json", "card.md"]
    json.loads((tmp_path / "card.json").read_text(encoding="utf-8"))
    assert all("zz" not in (tmp_path / name).read_text(encoding="utf-8") for name in ("card.json", "card.md"))
