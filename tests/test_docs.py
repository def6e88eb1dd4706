# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

# ruff: noqa: E501  (the commands are long, and stand here as on the pages)
from __future__ import annotations

import ast
import csv
import importlib
import json
import re
import shlex
import shutil
import textwrap
from pathlib import Path

import pytest

from monai_mgca.apps.data_command import main as data_main
from monai_mgca.data import make_sample

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "bundles" / "mgca" / "configs"
DOCS = sorted((ROOT / "docs").glob("*.md"))
TOP = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
PAGES = [*TOP, *DOCS, ROOT / "bundles" / "mgca" / "docs" / "README.md"]
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]


def read_blocks(page: Path, language: str) -> list[tuple[int, str, str]]:
    """(line, reason not to run it or "", text) of the fenced blocks of a language."""
    pattern = rf"(?:<!-- not run: (.+?) -->\n)?^```{language}\n(.*?)^```$"
    text = page.read_text(encoding="utf-8")
    found = re.finditer(pattern, text, flags=re.MULTILINE | re.DOTALL)
    return [(text[: match.start(2)].count("\n") + 1, match[1] or "", match[2]) for match in found]


def read_commands(page: Path) -> list[str]:
    """The shell commands of a page, one a line, without needless spaces."""
    text = "\n".join(block for _, _, block in read_blocks(page, "bash")).replace("\\\n", " ")
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


PYTHON = [
    pytest.param(page, line, reason, text, id=f"{name}:{line}")
    for page, name in zip(PAGES, IDS, strict=True)
    for line, reason, text in read_blocks(page, "python")
]


@pytest.mark.parametrize(("page", "line", "reason", "text"), PYTHON)
def test_python_block_runs(page, line, reason, text, folder):
    if reason:
        compile(text, str(page), "exec")
        pytest.skip(reason)
    exec(compile("\n" * (line - 1) + text, str(page), "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


class TestKeys:
    """docs/config.md holds the configs' keys, all and no other."""

    def keys_of(self, heading: str) -> list[str]:
        section = (ROOT / "docs" / "config.md").read_text().split(f"\n## {heading}")[1].split("\n## ")[0]
        return re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)

    @pytest.mark.parametrize(
        ("heading", "name"), [("Training", "train"), ("Inference", "inference"), ("Zero-shot", "evaluate_zero_shot")]
    )
    def test_scalars(self, heading, name):
        config = json.loads((CONFIGS / f"{name}.json").read_text())
        scalars = list(config)[: list(config).index("device") + 1]
        assert self.keys_of(heading) == [key for key in scalars if key not in ("_desc_", "imports")]

    @pytest.mark.parametrize("task", ["segmentation", "detection", "classification"])
    @pytest.mark.parametrize(("heading", "verb"), [("Finetuning", "train"), ("Inference of the tasks", "inference")])
    def test_scalars_of_a_task(self, heading, verb, task):
        section = (ROOT / "docs" / "config.md").read_text().split(f"\n## {heading}")[1].split("\n## ")[0]
        rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \|", section, flags=re.MULTILINE)
        config = json.loads((CONFIGS / f"{verb}_{task}.json").read_text())
        scalars = list(config)[: list(config).index("device") + 1]
        told = [key for key, tasks in rows if tasks == "all" or task in tasks.split(", ")]
        assert told == [key for key in scalars if key not in ("_desc_", "imports")]

    def test_overlays(self):
        text = (ROOT / "docs" / "config.md").read_text()
        tasks = {f"evaluate_{task}": f"train_{task}" for task in ("segmentation", "detection", "classification")}
        over = dict.fromkeys(("evaluate", "multi_gpu_train", "multi_gpu_evaluate", "official", "train_volume"), "train")
        for name, base in (over | tasks | {"inference_volume": "inference"}).items():
            train, config = (json.loads((CONFIGS / f"{file}.json").read_text()) for file in (base, name))
            new = [k for k, v in config.items() if k not in train and "#" not in k and k != "_desc_"]
            assert re.findall(rf"^\| `{name}.json` \| `(\w+)` \|", text, flags=re.MULTILINE) == new


def write_table(path: str, delimiter: str, rows: list[dict[str, str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys(), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def write_label_tables(count: int) -> None:
    """Tables of masks, boxes and labels of the images."""
    names = [{"path": f"{i}.png", "patient_id": i} for i in range(count)]
    masks = {"lung_mask": "0.png", "heart_mask": "1.png"}
    write_table("masks.csv", ",", [name | masks for name in names])
    write_table(
        "boxes.csv", ",", [name | {"boxes": "[[1, 2, 30, 40]]" if name["patient_id"] else ""} for name in names]
    )
    write_table("rows.csv", ",", [name | {"x": 1, "y": 2, "w": 30, "h": 40, "kind": "nodule"} for name in names])
    write_table("labels.csv", ",", [name | {"edema": 1, "effusion": "", "finding": "edema|mass"} for name in names])


@pytest.fixture
def own_data(folder, sample):
    """What commands and examples name: radiographs and texts of ten patients in folders, in tables, in datalists."""
    document = json.loads((sample / "datalist.json").read_text())
    one_each = {entry["patient"]: entry for split in ("training", "validation", "test") for entry in document[split]}
    entries = list(one_each.values())[:10]
    for i, entry in enumerate(entries):
        for place in (f"dicom/{i}/a.png", f"radiographs/{i}/a.png", f"images/{i}.png", f"{i}.png"):
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(sample / entry["image"], place)
        for place in (f"text/{i}/a.txt", f"reports/{i}/a.txt"):
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            Path(place).write_text(entry["report"])
    numbered = list(enumerate(entries))
    write_table(
        "reports.csv",
        ",",
        [{"path": f"{i}.png", "image_path": "", "text": e["report"], "patient_id": e["patient"]} for i, e in numbered],
    )
    texts = [{"path": f"{i}.png", "findings": e["report"], "impression": "", "mrn": e["patient"]} for i, e in numbered]
    splits = [{"split": ("train", "val", "test")[i % 3], "modality": "CR"} for i, _ in numbered]
    write_table("all.tsv", "\t", [text | split for text, split in zip(texts, splits, strict=True)])
    write_label_tables(len(entries))
    Path("images_to_leave_out.txt").write_text("3.png\n")
    table = ["csv", "reports.csv", "--image", "path", "--report", "text", "--output"]
    assert data_main([*table, "dataset.json"]) == 0
    assert data_main(["folder", "--images", "dicom", "--reports", "text", "--output", "dicom/datalist.json"]) == 0
    return folder


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """A small built-in sample."""
    folder = tmp_path_factory.mktemp("docs_sample")
    make_sample(folder, size=24, image_size=64, progress=False)
    return folder


DATA = "mgca data"
RUN = "python -m monai.bundle run --config_file"
TRAIN = f"{RUN} bundles/mgca/configs/train.json"


# every command of the pages that test_data_command_runs does not run, and where it is run or why not
BUNDLE_TESTS = "tests/bundle/test_bundle_commands.py"
FINETUNING = "tests/bundle/test_finetuning.py"
GROUND = "tests/apps/test_ground_command.py"
ZERO_SHOT = "tests/bundle/test_zero_shot.py"
VOLUMES = "tests/bundle/test_volumes.py"
CLIENTS = re.compile("curl |python docs/label_client.py")
ELSEWHERE = {
    f"{DATA} csv $CXR/manifest.csv --image image_path --report text --patient patient_id --split split --where source=iu_xray --output iu_xray.json": "tests/data/test_sources.py",
    f"{TRAIN} --dataset_dir $CXR --data_list_file_path iu_xray.json --image_encoder resnet_compact --report_encoder $MINILM --freeze_report_encoder true --pool_report mean --cache memory --cache_report_states true --image_size 128 --max_length 96 --hidden_dim 512 --augment true --select_sentences 0.7 --batch_size 64 --learning_rate 1e-3 --warmup 0.2 --epochs 20 --early_stopping_patience 0 --channels_last true --seed 0 --ckpt_dir runs/seed0 --output_dir runs/seed0/eval": "not run: needs the real data and half an hour",
    f'{DATA} csv $CXR/manifest.csv --image image_path --report text --label finding --separator ";" --classes Cardiomegaly "Pleural Effusion" Opacity "Pulmonary Atelectasis" --patient patient_id --split split --where source=iu_xray --output findings.json': "tests/data/test_table_labels.py",
    f'{DATA} csv $CXR/manifest.csv --image image_path --boxes boxes --classes "Lung Opacity (RSNA)" --patient patient_id --split split --where source=nih_cxr14 --output opacity.json': "tests/data/test_table_labels.py",
    f"{DATA} csv $CXR/manifest.csv --image image_path --boxes boxes --classes Cardiomediastinum --patient patient_id --split split --where source=covid_chestxray --output heart.json": "tests/data/test_table_labels.py",
    "mgca retrieve --evaluate --sections validation --dataset-dir $CXR --datalist iu_xray.json --checkpoint runs/seed0/model_pretrain.pt --output found": "not run: needs the real data",
    f"{DATA} csv $CXR/manifest.csv --image image_path --report text --label finding --classes normal --patient patient_id --split split --where source=iu_xray --output normal.json": "tests/data/test_table_labels.py",
    "python benchmarks/data.py --dataset-dir $CXR --datalist iu_xray.json --report-encoder $MINILM": "not run: needs the real data",
    "python benchmarks/data.py --by-hand --dataset-dir $CXR --datalist iu_xray.json --report-encoder $MINILM": "not run: needs the real data",
    "python benchmarks/data.py --pixels 1024 --items 32 --batch-size 16 --repeats 1": "not run: a benchmark",
    "python tests/fuzz/run.py --count 10000": "tests/fuzz/test_fuzz.py",
    "python -m pytest tests/properties --hypothesis-profile=full": "not run: the same tests with fewer examples are",
    "python benchmarks/retrieval.py --count 100000 --pairs 5000 100000 --checkpoint bundles/mgca/models/model_pretrain.pt": "not run: a benchmark",
    "python benchmarks/losses.py": "not run: a benchmark",
    "python benchmarks/losses.py --patches 361": "not run: a benchmark",
    "python benchmarks/losses.py --shortest 22 --longest 111": "not run: a benchmark",
    "python benchmarks/aggregation.py": "not run: a benchmark",
    "python benchmarks/scaling.py --plot docs/images/scaling.png": "not run: a benchmark",
    "python benchmarks/step.py": "not run: a benchmark",
    "python benchmarks/gpu.py --output gpu.md": "not run: needs a GPU",
    "python benchmarks/data.py --entries 400000": "not run: minutes, and 400,000 files",
    "python benchmarks/annotation.py --dataset-dir $CXR --datalist findings.json --normal normal.json --runs runs/seed0 runs/seed1 runs/seed2": "not run: needs the real data",
    "python benchmarks/zero_shot.py --dataset-dir $CXR --datalist findings.json --runs runs/seed0 runs/seed1 runs/seed2": "not run: needs the real data",
    'mgca ground --evaluate --section training --dataset-dir $CXR --datalist opacity.json --phrases "Lung Opacity (RSNA)=there is a focal airspace opacity" --checkpoint runs/seed0/model_pretrain.pt random --output found': "not run: needs the real data",
    'mgca ground --evaluate --section training --dataset-dir $CXR --datalist heart.json --phrases "Cardiomediastinum=the heart is enlarged" --checkpoint runs/seed0/model_pretrain.pt random --output found': "not run: needs the real data",
    "mgca probe --dataset-dir $CXR --datalist findings.json --checkpoint runs/seed0/model.pt random pixels --output findings_probe.csv": "not run: needs the real data",
    "python benchmarks/options.py --dataset-dir $CXR --datalist findings.json --option similarity runs/similarity-seed? --option learned runs/learned-seed? --option instance runs/ita-seed? --option instance+token runs/ita_cta-seed?": "not run: needs the real data",
    f"{DATA} csv $CXR/manifest.csv --image image_path --mask lung=mask_path --patient patient_id --split split --where source=kermany_v7 --output lungs.json": "tests/data/test_table_labels.py",
    f'{DATA} csv $CXR/manifest.csv --image image_path --boxes boxes --classes "Left Lung" "Right Lung" --patient patient_id --split split --where source=covid_chestxray --output boxes.json': "tests/data/test_table_labels.py",
    f'{DATA} csv $CXR/manifest.csv --image image_path --label finding --classes "No Finding" --patient patient_id --split split --where source=nih_cxr14 --output nih.json': "tests/data/test_table_labels.py",
    "python benchmarks/finetuning.py segmentation --dataset-dir $CXR --datalist lungs.json --runs runs/seed0 runs/seed1 runs/seed2 --output segmentation.csv --bf16": "not run: needs the real data and an hour",
    "python benchmarks/finetuning.py detection --dataset-dir $CXR --datalist boxes.json --runs runs/seed0 runs/seed1 runs/seed2 --output detection.csv --bf16": "not run: needs the real data and an hour",
    "mgca probe --dataset-dir $CXR --datalist nih.json --checkpoint runs/seed0/model.pt runs/seed1/model.pt runs/seed2/model.pt random pixels --output nih_probe.csv": "not run: needs the real data",
    f"{RUN} \"['bundles/mgca/configs/train.json','bundles/mgca/configs/train_volume.json']\"": VOLUMES,
    f"{RUN} \"['bundles/mgca/configs/train.json','bundles/mgca/configs/train_volume.json']\" --dataset_dir ct": VOLUMES,
    f"{RUN} \"['bundles/mgca/configs/train.json','bundles/mgca/configs/train_volume.json','bundles/mgca/configs/evaluate.json']\"": VOLUMES,
    f"{RUN} \"['bundles/mgca/configs/inference.json','bundles/mgca/configs/inference_volume.json']\" --dataset_dir ct": VOLUMES,
    f"{RUN} \"['configs/train.json','configs/train_volume.json']\"": VOLUMES,
    f"{RUN} \"['configs/inference.json','configs/inference_volume.json']\" --dataset_dir <folder of volumes>": VOLUMES,
    f"{DATA} csv ct.csv --image path --report text --patient patient_id --dataset-dir ct --output ct/datalist.json": VOLUMES,
    f"{DATA} check ct/datalist.json --volumes": VOLUMES,
    f"{RUN} bundles/mgca/configs/evaluate_zero_shot.json": ZERO_SHOT,
    f"{RUN} bundles/mgca/configs/evaluate_zero_shot.json --dataset_dir dicom --section test": ZERO_SHOT,
    f"{RUN} bundles/mgca/configs/evaluate_zero_shot.json --dataset_dir dicom --prompts own.json --bootstrap 0": ZERO_SHOT,
    f"{RUN} bundles/mgca/configs/evaluate_zero_shot.json --dataset_dir dicom --load_pretrain false": ZERO_SHOT,
    f"pip install -e . -c constraints.txt && {TRAIN}": BUNDLE_TESTS,
    'pip install -e ".[test]" -c constraints.txt && python -m pytest': ".ci/run",
    'pip install -e ".[dev]" -c constraints.txt': "not run: as the test extra, with ruff",
    "ruff check . && ruff format --check .": "not run: needs the dev extra",
    "python -m pytest": ".ci/run",
    "tensorboard --logdir bundles/mgca/eval": "not run: a server",
    **dict.fromkeys(
        (c for c in read_commands(ROOT / "docs" / "data.md") if re.match(f"{DATA} csv (nih|vindr|padchest)/", c)),
        "tests/data/test_table_images.py",
    ),
    f"{DATA} folder --images dicom --reports text --headings headings.json --output dicom/datalist.json": "tests/data/test_report_reader.py",
    f"{DATA} folder --images studies --reports one-per-folder --output studies/datalist.json": "tests/io/test_kind.py",
    f"{DATA} rsna_pneumonia --dataset-dir rsna-pneumonia-detection-challenge --output rsna.json": "tests/data/test_labeled_sources.py",
    f"{DATA} siim_acr --dataset-dir siim-acr-pneumothorax --output siim.json": "tests/data/test_labeled_sources.py",
    f"{DATA} object_cxr --dataset-dir object-cxr --output objects.json": "tests/data/test_labeled_sources.py",
    f"{DATA} chexpert --dataset-dir CheXpert-v1.0-small --output chexpert.json": "tests/data/test_labeled_sources.py",
    f"{DATA} covidx --dataset-dir covidx-cxr2 --output covidx.json": "tests/data/test_labeled_sources.py",
    f"{DATA} open_i --reports ecgen-radiology --images NLMCXR_png --output NLMCXR_png/datalist.json": "tests/data/test_sources.py",
    f"{DATA} mimic_cxr --dataset-dir mimic-cxr-jpg --reports mimic-cxr-reports --output mimic-cxr-jpg/datalist.json": "tests/data/test_sources.py",
    'pip install -e ".[label]" -c constraints.txt': "not run: as the test extra, without what tests need",
    "pip install --no-deps monailabel==0.8.5": "not run: for Python 3.13 alone",
    "mgca label --studies bundles/mgca/data/sample/images": "tests/label/test_page.py",
    "monailabel start_server --app label_app --studies bundles/mgca/data/sample/images --host 127.0.0.1": "tests/label/test_command.py",
    **dict.fromkeys(filter(CLIENTS.match, read_commands(ROOT / "docs" / "monailabel.md")), "tests/label/test_page.py"),
    "mgca card": "tests/apps/test_card_command.py",
    "mgca card --checkpoint bundles/mgca/models/model_pretrain.pt --dataset-dir dicom --section test --output report.html": "tests/apps/test_card_command.py",
    "mgca weights convert vit_base.ckpt models/model_pretrain.pt": "tests/weights/test_conversion.py",
    "mgca weights convert vit_base.ckpt models/model.pt --encoder-only": "tests/weights/test_conversion.py",
    "hf download emilyalsentzer/Bio_ClinicalBERT --local-dir weights/bert": "not run: needs the network",
    "hf download timm/deit_base_patch16_224.fb_in1k --local-dir weights/deit": "not run: needs the network",
    TRAIN: BUNDLE_TESTS,
    f"{TRAIN} --dataset_dir dicom": BUNDLE_TESTS,
    f"{TRAIN} --tracking mlflow": BUNDLE_TESTS,
    f"{TRAIN} --dataset_dir dicom --resume true": "tests/bundle/test_killed_training.py",
    f"{TRAIN} --dataset_dir dicom --image_encoder resnet50 --epochs 20": "tests/bundle/test_bundle_configs.py",
    f"HF_HUB_OFFLINE=1 {TRAIN} --dataset_dir dicom --report_encoder weights/bert --image_encoder_weights weights/deit/model.safetensors": "tests/bundle/test_bundle_paper_size.py",
    f"{TRAIN} --dataset_dir dicom --batch_size 288 --micro_batch_size 24": "tests/bundle/test_bundle_costs.py",
    f"{TRAIN} --dataset_dir dicom --freeze_report_encoder true --cache_report_states true --cache disk --checkpointing true --batch_size 24": "tests/bundle/test_bundle_configs.py",
    "torchrun --standalone --nproc_per_node=2 -m monai.bundle run --config_file \"['bundles/mgca/configs/train.json','bundles/mgca/configs/multi_gpu_train.json']\" --dataset_dir dicom": BUNDLE_TESTS,
    "torchrun --standalone --nproc_per_node=2 -m monai.bundle run --config_file \"['bundles/mgca/configs/train.json','bundles/mgca/configs/multi_gpu_train.json','bundles/mgca/configs/exact_multi_gpu_train.json']\" --dataset_dir dicom --batch_size 36": BUNDLE_TESTS,
    "torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=node0:29400 --rdzv_id=mgca -m monai.bundle run --config_file \"['bundles/mgca/configs/train.json','bundles/mgca/configs/multi_gpu_train.json','bundles/mgca/configs/exact_multi_gpu_train.json']\" --dataset_dir dicom": "not run: needs two machines",
    f"{RUN} \"['bundles/mgca/configs/train.json','bundles/mgca/configs/evaluate.json']\" --dataset_dir dicom --section test": "tests/bundle/test_bundle_outputs.py",
    f"{RUN} bundles/mgca/configs/inference.json --dataset_dir dicom": "tests/bundle/test_bundle_outputs.py",
    f"{RUN} \"['bundles/mgca/configs/train.json','bundles/mgca/configs/official.json']\" --pretrained_path models/model_pretrain.pt": "tests/bundle/test_bundle_configs.py",
    f"{RUN} configs/train.json": BUNDLE_TESTS,
    f"{RUN} configs/train.json --dataset_dir <folder of datalist.json> --epochs 20": BUNDLE_TESTS,
    "torchrun --standalone --nproc_per_node=2 -m monai.bundle run --config_file \"['configs/train.json','configs/multi_gpu_train.json']\"": BUNDLE_TESTS,
    f"{RUN} \"['configs/train.json','configs/evaluate.json']\"": "tests/bundle/test_bundle_outputs.py",
    f"{RUN} configs/inference.json --dataset_dir <folder of images>": "tests/bundle/test_bundle_outputs.py",
    f"{RUN} bundles/mgca/configs/train_segmentation.json": FINETUNING,
    f"{RUN} \"['bundles/mgca/configs/train_segmentation.json','bundles/mgca/configs/evaluate_segmentation.json']\"": FINETUNING,
    f"{RUN} bundles/mgca/configs/inference_segmentation.json --overlays true": FINETUNING,
    f"{RUN} bundles/mgca/configs/train_segmentation.json --dataset_dir dicom --label_fraction 0.1 --freeze_encoder false": FINETUNING,
    f"{RUN} bundles/mgca/configs/inference_segmentation.json --dataset_dir dicom --overlays true": FINETUNING,
    f"{RUN} configs/train_segmentation.json": FINETUNING,
    f"{RUN} \"['configs/train_segmentation.json','configs/evaluate_segmentation.json']\"": FINETUNING,
    f"{RUN} configs/inference_segmentation.json --dataset_dir <folder of images>": FINETUNING,
    "torchrun --standalone --nproc_per_node=2 -m monai.bundle run --config_file \"['configs/train_segmentation.json','configs/evaluate_segmentation.json','configs/multi_gpu_evaluate.json']\"": FINETUNING,
    f"{RUN} bundles/mgca/configs/train_detection.json": FINETUNING,
    f"{RUN} \"['bundles/mgca/configs/train_detection.json','bundles/mgca/configs/evaluate_detection.json']\"": FINETUNING,
    f"{RUN} bundles/mgca/configs/inference_detection.json --overlays true": FINETUNING,
    f"{RUN} bundles/mgca/configs/train_detection.json --dataset_dir dicom --label_fraction 0.1": FINETUNING,
    f"{RUN} bundles/mgca/configs/inference_detection.json --dataset_dir dicom --overlays true": FINETUNING,
    'python -m monai.bundle onnx_export export_def --config_file bundles/mgca/configs/inference_detection.json --meta_file bundles/mgca/configs/metadata_detection.json --ckpt_file bundles/mgca/models/model_detection.pt --filepath detection.onnx --use_trace true --input_shape "[1, 1, 128, 128]"': FINETUNING,
    "mgca anchors dataset.json --image-size 224": "tests/apps/test_anchors.py",
    f"{RUN} bundles/mgca/configs/train_classification.json": FINETUNING,
    f"{RUN} \"['bundles/mgca/configs/train_classification.json','bundles/mgca/configs/evaluate_classification.json']\"": FINETUNING,
    f"{RUN} bundles/mgca/configs/inference_classification.json": FINETUNING,
    f"{RUN} bundles/mgca/configs/train_classification.json --dataset_dir dicom --label_fraction 0.1": FINETUNING,
    f"{RUN} bundles/mgca/configs/train_classification.json --dataset_dir dicom --freeze_encoder false --learning_rate 1e-4": FINETUNING,
    f"{RUN} bundles/mgca/configs/inference_classification.json --dataset_dir dicom": FINETUNING,
    "mgca probe --fractions 1 0.1 0.01 --seeds 3 --output bundles/mgca/eval/classification/probe.csv": "tests/apps/test_probe_command.py",
    "mgca probe --dataset-dir dicom --checkpoint models/model.pt random --encoder resnet50 --output probe.csv": "tests/apps/test_probe_command.py",
    'mgca retrieve --text "small left pleural effusion" "cardiomegaly"': "tests/apps/test_retrieve_command.py",
    "mgca retrieve --image bundles/mgca/data/sample/images/sample_00012.png --target reports": "tests/apps/test_retrieve_command.py",
    'mgca ground --image bundles/mgca/data/sample/images/sample_00037.png --text "right pneumothorax" "left effusion"': GROUND,
    "mgca ground --image bundles/mgca/data/sample/images/sample_00037.png --words": GROUND,
    "mgca ground --evaluate --mask-key finding_mask": GROUND,
    'mgca ground --evaluate --dataset-dir dicom --phrases "opacity=there is a focal airspace opacity"': GROUND,
    "mgca ground --evaluate": GROUND,
    "python docs/make_figures.py": "not run: draws the pages' pictures",
    f"{TRAIN} --sample_size 2560 --image_encoder resnet_tiny --image_size 192 --augment true --select_sentences 0.7": "not run: a quarter of an hour; tests/bundle/test_bundle_configs.py runs every key",
    "mgca probe --output bundles/mgca/eval/probe.csv": "tests/apps/test_probe_command.py",
    f"{RUN} configs/evaluate_zero_shot.json": ZERO_SHOT,
    'pip install -e ".[test]" -c constraints.txt': ".ci/run",
    "mgca retrieve --evaluate --sections validation": "tests/apps/test_retrieve_command.py",
    'mgca retrieve --dataset-dir dicom --checkpoint models/model_pretrain.pt --text "left pleural effusion" --output found': "tests/apps/test_retrieve_command.py",
    'mgca retrieve --images radiographs --checkpoint models/model_pretrain.pt --text "left pleural effusion" --output found': "tests/apps/test_retrieve_command.py",
    'python -m monai.bundle ckpt_export network_def --config_file bundles/mgca/configs/inference_segmentation.json --meta_file bundles/mgca/configs/metadata_segmentation.json --ckpt_file bundles/mgca/models/model_segmentation.pt --filepath segmentation.ts --use_trace true --input_shape "[1, 1, 128, 128]"': FINETUNING,
}
# the two lists together are all commands of all pages
ALL = dict.fromkeys(command for page in PAGES for command in read_commands(page))
RUN_HERE = [command for command in ALL if command.startswith(f"{DATA} ") and command not in ELSEWHERE]


@pytest.mark.parametrize("command", RUN_HERE)
def test_data_command_runs(command, own_data):
    # a sample of the default size takes longer, and no test writes to /data
    arguments = shlex.split(command.removeprefix(DATA).replace("/data/", f"{own_data}/"))
    if arguments[0] == "sample":
        arguments = [*arguments, "--size", "24"]
    assert data_main(arguments) == 0


def test_every_command_is_run_somewhere():
    assert set(ALL) - set(RUN_HERE) == set(ELSEWHERE)
    for place in ELSEWHERE.values():
        assert place.startswith("not run: ") or (ROOT / place).is_file(), place


@pytest.mark.parametrize("command", [command for command in ALL if "monai.bundle run" in command])
def test_bundle_command_names_configs_and_keys(command):
    names = re.findall(r"configs/(\w+\.json)", command)
    keys = {key for name in names for key in json.loads((CONFIGS / name).read_text())}
    options = re.findall(r"--(\w+)", command.split("monai.bundle run")[1])
    assert names
    assert set(options) - {"config_file", "logging_file", "tracking"} <= keys


def find_examples() -> list:
    """The ``Example::`` blocks in the package's docstrings."""
    found = []
    for path in sorted((ROOT / "monai_mgca").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and (text := ast.get_docstring(node)):
                for block in re.findall(r"^Examples?::\n\n((?:    .*\n?|\n)+)", text, flags=re.MULTILINE):
                    found.append(pytest.param(module, node.name, textwrap.dedent(block), id=f"{module}.{node.name}"))
    return found


# the examples that need what only a user has, by the beginning of their name
NEEDS = {
    "handlers": "an engine of the user's; tests/handlers has some",
    "engines.prepare_batch": "an engine of the user's; tests/engines has some",
    "data.sources.mimic_cxr": "a download of MIMIC-CXR; tests/data/test_sources.py makes a small one",
    "data.sources.open_i": "a download of Open-i; tests/data/test_sources.py makes a small one",
    "data.sources.chexpert": "a download of CheXpert; tests/data/test_labeled_sources.py makes a small one",
    "data.sources.covidx": "a download of COVIDx; tests/data/test_labeled_sources.py makes a small one",
    "data.sources.object_cxr": "a download of Object-CXR; tests/data/test_labeled_sources.py makes a small one",
    "data.sources.rsna_pneumonia": "a download of RSNA's data; tests/data/test_labeled_sources.py makes a small one",
    "data.sources.siim_acr": "a download of SIIM-ACR's data; tests/data/test_labeled_sources.py makes a small one",
    "data.find_dataset.resolve_dataset": "640 studies take long to draw; tests/bundle draws some",
    "data.sample.contact_sheet": "640 studies take long to draw; the page's command draws a sheet of some",
    "apps.ground.phrase_grounder.PhraseGrounder": "a pretrained model; tests/apps/test_grounding.py makes a small one",
    "apps.ground.grounding_reference": "a pretrained model; tests/bundle/test_travelling.py makes one",
    "apps.ground.regions.load_regions": "a datalist with boxes; tests/apps/test_ground_command.py makes one",
    "apps.zero_shot.zero_shot_classifier.ZeroShotClassifier": "a pretrained model; tests/apps/test_zero_shot.py makes a small one",
    "apps.card.card_content.measure_zero_shot": "a pretrained model; tests/apps/test_card_command.py makes a small one",
    "apps.image_text_model": "a pretrained model; tests/apps makes small ones",
    "weights.network_weights": "downloaded weights; tests/weights/test_encoder_weights.py makes small ones",
}
# what an example leaves out for brevity
PRELUDE = """
import torch, transformers
from monai.transforms import LoadImaged
from monai_mgca.data import *
from monai_mgca.networks import *
from monai_mgca.weights import *
"""


@pytest.mark.parametrize(("module", "name", "text"), find_examples())
def test_docstring_example_runs(module, name, text, own_data):
    if module.startswith("monai_mgca.label."):
        pytest.importorskip(
            "monailabel", reason="MONAI Label is not installed: on Python 3.13 it needs a line of its own"
        )
    code = compile(text.replace("/data/cxr", str(own_data)), f"{module}.{name}", "exec")
    for part, reason in NEEDS.items():
        if f"{module}.{name}".startswith(f"monai_mgca.{part}"):
            pytest.skip(reason)
    namespace: dict = {}
    exec(PRELUDE, namespace)
    exec(code, namespace | vars(importlib.import_module(module)))
