# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The card of a model for programs: RSNA ATLAS's JSON, and Hugging Face's Markdown with its block of YAML."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from monai_mgca.utils.files import replacing

__all__ = ["atlas_card", "hub_card", "write_machine_cards"]

SCHEMA = "https://atlas.rsna.org/schemas/2025-11/model.json"
PAPER = "Multi-Granularity Cross-modal Alignment for Generalized Medical Visual Representation Learning"
# what only people know: where it stands in ATLAS's card, and what it is
OPEN = {
    "Model.Link": "address of the model",
    "Model.Descriptors.Authors": "who trained it",
    "Model.Descriptors.License": "license of the weights",
    "Model.Descriptors.Contact": "whom to ask",
    "Model.Descriptors.Ethical review": "of the data",
    "Model.Model properties.Indications for use": "diseases, patients and place of use",
    "Model.Model properties.Regulatory information": "whether it is cleared",
}
LIMITS = (
    "For research, not for diagnosis. Similarities rank and are no frequencies unless they are calibrated. A report "
    "that names a finding mostly denies it, and the model hardly reads 'no'. Measured on one section of one data set."
)


def _figures(values: Mapping[str, Any]) -> list[tuple[str, str, str, float, str]]:
    """Figures that were measured: what of, ATLAS's name, Hugging Face's type, the value and its interval."""
    found = []
    for title, recalls, _ in values["retrieval"]["rows"][:2]:
        for k, recall in zip(values["retrieval"]["ks"], recalls, strict=True):
            found.append((f"{title}, recall at {k}", "recall", "recall", float(recall), ""))
    for row in values["zero_shot"]["rows"]:
        if row["auroc"] == row["auroc"]:
            name, interval = "area under the receiver operating characteristic curve", _interval(row)
            found.append((f"zero-shot, {row['finding']}", name, "roc_auc", float(row["auroc"]), interval))
    for row in values["negation"]:
        if row["sentence"] == row["sentence"]:
            what, interval = f"sentence against its negation, {row['finding']}", _interval(row)
            found.append((what, "balanced accuracy", "balanced_accuracy", float(row["sentence"]), interval))
    return found


def _interval(row: Mapping[str, Any]) -> str:
    return f"{row['low']:.3f} to {row['high']:.3f}"


def _data_set(values: Mapping[str, Any]) -> str:
    data = values["data"]
    counts = ", ".join(f"{name} {count}" for name, count in data["counts"].items())
    parts = (data["set"] or "a data set without a name", f"pairs: {counts}", data["hash"] and f"hash {data['hash']}")
    return "; ".join(filter(None, parts))


def atlas_card(values: Mapping[str, Any]) -> dict[str, Any]:
    """The card in the form of RSNA ATLAS (2025-11), whose names are those of the ontology ROADMAP.

    Args:
        values: what :func:`monai_mgca.apps.card.compose_card.compose_card` has measured.

    Returns:
        What is known; what only people know is missing, see ``OPEN``, so that ATLAS accepts it once "Link" is filled.

    Source:
        https://atlas.rsna.org, and Suri et al. 2026, https://doi.org/10.1148/ryai.260069
    """
    settings, volumes = values["settings"], values["volumes"]
    figures, kind = _figures(values), "chest CT" if volumes else "chest radiographs"
    lines = [f"{what}: {value:.4f}{f' (95 % interval {i})' if i else ''}" for what, _, _, value, i in figures]
    source = f"{len(values['data']['entries'])} pairs of the section {values['section']} of {_data_set(values)}"
    sizes = {key: value for key, value in settings.items() if key in ("image encoder", "image size", "report encoder")}
    model: dict[str, Any] = {
        "Name": f"MGCA, {settings['weights']}",
        "Indexing": {
            "Content": ["CH", "CT"] if volumes else ["CH"],
            "Keywords": ["image-report pretraining", "contrastive learning", "MGCA", "MONAI"],
        },
        "Descriptors": {
            "Date": {"Created": values["date"]},
            "Version": f"monai_mgca {values['version']}",
            "References": [
                {
                    "Title": PAPER,
                    "Authors": "Wang F, Zhou Y, Wang S, Vardhanabhuti V, Yu L",
                    "Source": "NeurIPS",
                    "Date": 2022,
                    "URL": "https://arxiv.org/abs/2210.06044",
                }
            ],
        },
        "Model properties": {
            "Architecture": "; ".join(f"{name}: {value}" for name, value in sizes.items()),
            "Input": f"{kind} and texts",
            "Output": {"Description": "embeddings and similarities of images and texts; maps of phrases"},
            "Limitations": LIMITS,
            "Use": {"Intended": ["Research"], "Excluded": ["Diagnosis", "Treatment"]},
            "User": {"Intended": ["Researcher"]},
        },
        "Imaging": {
            "Modalities": ["Computed tomography (RID10321)" if volumes else "Projection radiography (RID10345)"],
            "File format": ["DICOM", "NiFTI"] if volumes else ["DICOM", "PNG", "JPEG", "NiFTI"],
        },
        "Model performance": {
            "Metrics": sorted({name for _, name, _, _, _ in figures}),
            "Comments": f"Measured on {source}. " + "; ".join(lines),
        },
    }
    return {"$schema": SCHEMA, "Model": model}


def hub_card(values: Mapping[str, Any]) -> str:
    """The card as the README.md of a repository of Hugging Face's hub, made by ``huggingface_hub``.

    Args:
        values: as :func:`atlas_card`.

    Returns:
        Markdown behind a block of YAML with the figures. The license is left open.
    """
    name, data = f"mgca-{Path(values['settings']['weights']).stem}", values["data"]
    results = [
        EvalResult(
            task_type="zero-shot-image-classification" if kind == "roc_auc" else "image-text-retrieval",
            dataset_type=data["set"] or "unnamed",
            dataset_name=data["set"] or "unnamed",
            dataset_split=values["section"],
            metric_type=kind,
            metric_name=what,
            metric_value=round(value, 4),
        )
        for what, _, kind, value, _ in _figures(values)
    ]
    tags = ["medical", "radiology", "image-text", "mgca", "ct" if values["volumes"] else "x-ray"]
    meta = ModelCardData(
        language="en", library_name="monai", tags=tags, model_name=name, eval_results=results, pipeline_tag=None
    )
    rows = [f"| {what} | {value:.4f} | {interval} |" for what, _, _, value, interval in _figures(values)]
    settings = [f"| {key} | {value} |" for key, value in values["settings"].items()]
    text = [
        *("---", meta.to_yaml(), "---", "", f"# {name}", "", f"{PAPER} (MGCA), by monai_mgca {values['version']}.", ""),
        *("## Limits", "", LIMITS, "", "## Data", "", f"{_data_set(values)}.", ""),
        *("## Figures", "", f"Section {values['section']}, {len(data['entries'])} pairs.", ""),
        *("| figure | value | 95 % interval |", "|---|---|---|", *rows, ""),
        *("## Settings", "", "| setting | value |", "|---|---|", *settings, ""),
        *("## Left open", "", *(f"- {what} (ATLAS: {place})" for place, what in OPEN.items()), ""),
    ]
    return str(ModelCard("\n".join(text)))


def write_machine_cards(page: str | os.PathLike, values: Mapping[str, Any]) -> Sequence[str]:
    """Write both beside the page, with ".json" and ".md" in place of its suffix.

    Args:
        page: path of the HTML page.
        values: as :func:`atlas_card`.

    Returns:
        Their paths.
    """
    texts = {".json": json.dumps(atlas_card(values), indent=2, ensure_ascii=False) + "\n", ".md": hub_card(values)}
    paths = []
    for suffix, text in texts.items():
        paths.append(str(Path(page).with_suffix(suffix)))
        with replacing(paths[-1]) as temporary:
            Path(temporary).write_text(text, encoding="utf-8")
    return paths
