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

"""What pretraining on Open-i's image-report pairs gives: retrieval, zero-shot and frozen-feature probes.

Prints one table with the same encoder at random and raw 32 x 32 pixels beside it. docs/benchmarks.md has the commands
that make the datalist and the checkpoints, and what came out.

    python benchmarks/iu_xray.py --dataset-dir $CXR --datalist iu_xray.json --runs runs/seed0 runs/seed1
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset
from monai.utils import set_determinism
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from monai_mgca.metrics import compute_retrieval
from monai_mgca.networks import load_network
from monai_mgca.utils import read_settings

CONFIG = Path(__file__).parents[1] / "bundles" / "mgca" / "configs" / "train.json"
TASKS = {
    "normal": "normal",
    "cardiomegaly": "Cardiomegaly",
    "effusion": "Pleural Effusion",
    "opacity": "Opacity",
    "atelectasis": "Pulmonary Atelectasis",
}
# Each finding's presence and absence in the words of reports. An ensemble needs some breadth: single prompts, and five
# of them, differ by much more than networks do.
PROMPTS = {
    "cardiomegaly": (
        "cardiomegaly; there is cardiomegaly; borderline cardiomegaly; mild cardiomegaly; moderate "
        "cardiomegaly; severe cardiomegaly; stable cardiomegaly; enlarged heart; the heart is enlarged; the "
        "heart is mildly enlarged; the heart is moderately enlarged; the heart is markedly enlarged; heart "
        "size is enlarged; the heart size is mildly enlarged; stable enlargement of the heart; the cardiac "
        "silhouette is enlarged; enlargement of the cardiac silhouette; the cardiomediastinal silhouette is "
        "enlarged",
        "no cardiomegaly; no evidence of cardiomegaly; the heart is not enlarged; normal heart; normal heart size; "
        "heart size is normal; the heart is normal in size; heart size within normal limits; "
        "the heart size is within normal limits; heart and mediastinum within normal limits; "
        "the heart and mediastinum are normal; the cardiac silhouette is normal in size; "
        "cardiac silhouette within normal limits; cardiac and mediastinal contours are within normal limits; "
        "normal cardiomediastinal silhouette; the cardiomediastinal silhouette is within normal limits",
    ),
    "effusion": (
        "pleural effusion; small left pleural effusion; bilateral pleural effusions; "
        "blunting of the costophrenic angle",
        "no pleural effusion; costophrenic angles are clear; no effusion or pneumothorax",
    ),
}
COLUMNS = ["R@10 i2r", "R@10 r2i", "rank i2r", "rank r2i", "zs cardio", "zs effusion", *TASKS, "mean", "mean 10 %"]


def labels_of(dataset_dir: Path, entries: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The findings of the entries, which the manifest has beside each image."""
    with open(dataset_dir / "manifest.csv", newline="", encoding="utf-8") as file:
        findings = {row["image_path"]: row["finding"].split(";") for row in csv.DictReader(file)}
    names = [str(Path(entry["image"]).relative_to(dataset_dir)) for entry in entries]
    return {task: np.array([word in findings[name] for name in names]) for task, word in TASKS.items()}


def parser_of(settings: dict[str, Any], dataset_dir: Path, datalist: Path) -> ConfigParser:
    """The bundle's training config with the settings of a run."""
    parser = ConfigParser()
    parser.read_config(str(CONFIG))
    parser.update({**settings, "dataset_dir": str(dataset_dir), "data_list_file_path": str(datalist)})
    parser.update({"cache": "none", "cache_report_states": False, "report_encoder_pretrained": True})
    return parser


@torch.no_grad()
def encode(parser: ConfigParser, network: torch.nn.Module, entries: list[dict[str, Any]], reports: bool) -> dict:
    """Pooled features of all images; with their reports also the embeddings of both, and the token ids."""
    network.eval()
    dataset = Dataset(entries, parser.get_parsed_content("validate#preprocessing"))
    found: dict[str, list[torch.Tensor]] = {"features": [], "image": [], "report": [], "tokens": []}
    for batch in tqdm(DataLoader(dataset, batch_size=64, num_workers=2), desc="encoding"):
        features = network.image_encoder(batch["image"].as_tensor())
        found["features"].append(features.pooled)
        if reports:
            length = int(batch["attention_mask"].sum(1).max())
            tokens = (batch[key][:, :length] for key in ("input_ids", "attention_mask", "word_ids"))
            found["image"].append(network.image_head(features.pooled))
            found["report"].append(network.encode_report(*tokens)["report_embedding"])
            found["tokens"].append(batch["input_ids"])
    return {key: torch.cat(parts) for key, parts in found.items() if parts}


@torch.no_grad()
def zero_shot(parser: ConfigParser, network: torch.nn.Module, images: torch.Tensor, finding: str) -> np.ndarray:
    """How much nearer each image is to the finding's presence than to its absence."""
    tokenize = next(t for t in parser.get_parsed_content("train#deterministic_transforms") if hasattr(t, "tokenize"))
    sides = []
    for prompts in PROMPTS[finding]:
        tokens = [tokenize.tokenize([prompt]) for prompt in prompts.split("; ")]
        batch = [torch.stack([item[key] for item in tokens]) for key in ("input_ids", "attention_mask", "word_ids")]
        sides.append(F.normalize(network.encode_report(*batch)["report_embedding"].mean(0), dim=0))
    scores: np.ndarray = (images @ (sides[0] - sides[1])).numpy()
    return scores


def probe(train: np.ndarray, val: np.ndarray, y: np.ndarray, y_val: np.ndarray, share: float, seed: int) -> float:
    """AUROC of a logistic regression on a share of each class; its penalty is chosen within those."""
    rng = np.random.default_rng(seed)
    classes = [rng.permutation(np.flatnonzero(y == value)) for value in (False, True)]
    chosen = np.concatenate([index[: max(3, round(share * len(index)))] for index in classes])
    solver = LogisticRegressionCV(
        Cs=[1e-4, 1e-3, 1e-2, 1e-1], cv=3, scoring="roc_auc", max_iter=500, l1_ratios=(0,), use_legacy_attributes=False
    )
    model = make_pipeline(StandardScaler(), solver).fit(train[chosen], y[chosen])
    return float(roc_auc_score(y_val, model.decision_function(val)))


def probes(train: np.ndarray, val: np.ndarray, y: dict, y_val: dict, label_seeds: int) -> dict[str, float]:
    """The AUROC of all tasks with all labels, and the means with all and with a tenth of them."""
    whole = {task: probe(train, val, y[task], y_val[task], 1.0, 0) for task in TASKS}
    tenth = [probe(train, val, y[t], y_val[t], 0.1, seed) for t in TASKS for seed in range(label_seeds)]
    return {**whole, "mean": float(np.mean(list(whole.values()))), "mean 10 %": float(np.mean(tenth))}


def figures(parser: ConfigParser, network: torch.nn.Module, data: dict, args: argparse.Namespace) -> dict[str, float]:
    """All columns of the table for one network."""
    train, val = (encode(parser, network, data[key], key == "validation") for key in ("training", "validation"))
    found = compute_retrieval(val["image"], val["report"], val["tokens"])
    y, y_val = data["y"], data["y_val"]
    return {
        "R@10 i2r": found["image_to_report_recall_at_10"],
        "R@10 r2i": found["report_to_image_recall_at_10"],
        "rank i2r": found["image_to_report_median_rank"],
        "rank r2i": found["report_to_image_median_rank"],
        "zs cardio": roc_auc_score(y_val["cardiomegaly"], zero_shot(parser, network, val["image"], "cardiomegaly")),
        "zs effusion": roc_auc_score(y_val["effusion"], zero_shot(parser, network, val["image"], "effusion")),
        **probes(train["features"].numpy(), val["features"].numpy(), y, y_val, args.label_seeds),
    }


def pixels(parser: ConfigParser, entries: list[dict[str, Any]]) -> np.ndarray:
    """The images at 32 x 32 pixels, by area."""
    load = parser.get_parsed_content("train#deterministic_transforms")[0]
    small = [
        F.adaptive_avg_pool2d(load({"image": e["image"]})["image"].as_tensor(), 32)
        for e in tqdm(entries, desc="pixels")
    ]
    return torch.stack(small).flatten(1).numpy() / 255


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset-dir", type=Path, required=True, help="folder with manifest.csv and images")
    parser.add_argument("--datalist", type=Path, required=True, help="made by python -m monai_mgca.data csv")
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="ckpt_dir of each pretraining run")
    parser.add_argument("--label-seeds", type=int, default=3, help="draws of a tenth of the labels")
    args = parser.parse_args()
    args.dataset_dir = args.dataset_dir.resolve()

    rows: list[tuple[str, dict[str, float]]] = []
    for number, run in enumerate(args.runs):
        set_determinism(number)
        config = parser_of(read_settings(run / "model.json"), args.dataset_dir, args.datalist)
        if number == 0:
            data = {
                section: config.get_parsed_content(f"{key}#data")
                for section, key in (("training", "train"), ("validation", "validate"))
            }
            data |= {
                "y": labels_of(args.dataset_dir, data["training"]),
                "y_val": labels_of(args.dataset_dir, data["validation"]),
            }
            raw = [pixels(config, data[section]) for section in ("training", "validation")]
            rows.append(("raw 32 x 32 pixels", probes(*raw, data["y"], data["y_val"], args.label_seeds)))
        network = config.get_parsed_content("network_def")
        rows.append((f"random {number}", figures(config, network, data, args)))
        load_network(network, run / "model_pretrain.pt")
        rows.append((f"pretrained {run.name}", figures(config, network, data, args)))
    for kind in ("random", "pretrained"):
        of_kind = [row for name, row in rows if name.startswith(kind)]
        rows.append(
            (f"**{kind}, mean of {len(of_kind)}**", {c: float(np.mean([r[c] for r in of_kind])) for c in COLUMNS})
        )
    print("\n| encoder | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (len(COLUMNS) + 1))
    for name, row in rows:
        cells = [(f"{row[c]:.0f}" if "rank" in c else f"{row[c]:.3f}") if c in row else "" for c in COLUMNS]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
