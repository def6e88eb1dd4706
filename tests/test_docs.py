# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

# ruff: noqa: E501  (the commands are long, and stand here as on the pages)
from __future__ import annotations

import ast
import csv
import importlib
import json
import pkgutil
import re
import shlex
import shutil
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

from monai_mgca.__main__ import main
from monai_mgca.data import make_sample

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "bundles" / "mgca" / "configs"
DOCS = sorted((ROOT / "docs").glob("*.md"))
TOP = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
PAGES = [*TOP, *DOCS, ROOT / "bundles" / "mgca" / "docs" / "README.md"]
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]


HERE = "tests/test_docs.py"


class Command(NamedTuple):
    """A shell command of a page, without needless spaces, and where it is run, or "not run: " and why."""

    text: str
    place: str
    line: str


def read_blocks(page: Path, languages: str) -> list[tuple[int, str, str]]:
    """(line, the comment before it that says where it is run or "", text) of the fenced blocks of languages."""
    pattern = rf"(?:^<!-- (run by(?:(?!-->).)+|not run: [^\n]+) ?-->\n)?^```(?:{languages})\n(.*?)^```$"
    text = page.read_text(encoding="utf-8")
    found = re.finditer(pattern, text, flags=re.MULTILINE | re.DOTALL)
    return [(text[: match.start(2)].count("\n") + 1, (match[1] or "").strip(), match[2]) for match in found]


def read_commands(page: Path) -> list[Command]:
    """The shell commands of a page.

    The comment before a block is ``run by FILE`` or ``not run: REASON`` for all its commands, or ``run by, in turn:``
    and a line for each command. A block without a comment is run here.
    """
    found = []
    for line, comment, text in read_blocks(page, "bash|sh"):
        commands = [" ".join(part.split()) for part in text.replace("\\\n", " ").splitlines() if part.strip()]
        first, *each = (comment or f"run by {HERE}").splitlines()
        places = each or [first.removeprefix("run by ")] * len(commands)
        where = f"{page.relative_to(ROOT)}:{line}"
        assert len(places) == len(commands), f"{where}: {len(commands)} commands and {len(places)} places"
        found += [Command(command, place, where) for command, place in zip(commands, places, strict=True)]
    return found


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
        assert reason.startswith("not run: ")
        compile(text, str(page), "exec")
        pytest.skip(reason.removeprefix("not run: "))
    exec(compile("\n" * (line - 1) + text, str(page), "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_what_is_named_exists(page):
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:tests|monai_mgca|benchmarks|docs|\.ci)/[\w/.-]+)", text):
        # recipes write NAME and TASK; a page may name several files by their beginning
        assert list(ROOT.glob(re.sub("NAME|TASK", "*", path).rstrip("/") + "*")), path
    for name in re.findall(r"`(monai_mgca(?:\.\w+)+)", text):
        pkgutil.resolve_name(name)


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
        documented = [key for key, tasks in rows if tasks == "all" or task in tasks.split(", ")]
        assert documented == [key for key in scalars if key not in ("_desc_", "imports")]

    def test_overlays(self):
        text = (ROOT / "docs" / "config.md").read_text()
        tasks = {f"evaluate_{task}": f"train_{task}" for task in ("segmentation", "detection", "classification")}
        over = dict.fromkeys(("evaluate", "multi_gpu_train", "multi_gpu_evaluate", "official", "train_volume"), "train")
        tasks |= {f"train_{task}_volume": f"train_{task}" for task in ("segmentation", "detection", "classification")}
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
    for command in (
        "data csv reports.csv --image path --report text --output dataset.json",
        "data folder --images dicom --reports text --output dicom/datalist.json",
    ):
        assert main(command.split()) == 0
    return folder


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """A small built-in sample."""
    folder = tmp_path_factory.mktemp("docs_sample")
    make_sample(folder, size=24, image_size=64, progress=False)
    return folder


COMMANDS = [command for page in PAGES for command in read_commands(page)]
RUN_HERE = list(dict.fromkeys(command.text for command in COMMANDS if command.place == HERE))


@pytest.mark.parametrize("command", RUN_HERE)
def test_command_runs(command, own_data):
    assert command.startswith(("mgca data ", "mgca check ")), (
        "say before the block which test runs it, or why none does"
    )
    # a sample of the default size takes longer, and no test writes to /data
    arguments = shlex.split(command.removeprefix("mgca ").replace("/data/", f"{own_data}/"))
    if arguments[:2] == ["data", "sample"]:
        arguments += ["--size", "24"]
    assert main(arguments) == 0


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.line)
def test_every_command_is_run_somewhere(command):
    assert re.match("not run: .", command.place) or (ROOT / command.place).is_file(), command


BUNDLE = list(dict.fromkeys(command.text for command in COMMANDS if "monai.bundle run" in command.text))


@pytest.mark.parametrize("command", BUNDLE)
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
    "data.sources.chexpert": "a download of CheXpert; tests/data/sources/test_chexpert.py makes a small one",
    "data.sources.covidx": "a download of COVIDx; tests/data/sources/test_covidx.py makes a small one",
    "data.sources.object_cxr": "a download of Object-CXR; tests/data/sources/test_object_cxr.py makes a small one",
    "data.sources.rsna_pneumonia": "a download of RSNA's data; tests/data/sources/test_rsna_pneumonia.py makes a small one",
    "data.sources.siim_acr": "a download of SIIM-ACR's data; tests/data/sources/test_siim_acr.py makes a small one",
    "data.sources.ct_rate": "a download of CT-RATE; tests/data/sources/test_ct_rate.py makes a small one",
    "data.sources.rad_chestct": "a download of RAD-ChestCT; tests/data/sources/test_rad_chestct.py makes a small one",
    "data.sources.merlin": "a download of Merlin; tests/data/sources/test_merlin.py makes a small one",
    "data.sources.inspect_ctpa": "a download of INSPECT; tests/data/sources/test_inspect_ctpa.py makes a small one",
    "data.find_dataset.resolve_dataset": "640 studies take long to draw; tests/bundle draws some",
    "data.sample.contact_sheet": "640 studies take long to draw; the page's command draws a sheet of some",
    "apps.ground.phrase_grounder.PhraseGrounder": "a pretrained model; tests/apps/test_grounding.py makes a small one",
    "apps.ground.grounding_reference": "a pretrained model; tests/bundle/test_travelling.py makes one",
    "apps.outliers": "a pretrained model; tests/apps/test_outliers_command.py makes a small one",
    "apps.ground.regions.load_regions": "a datalist with boxes; tests/apps/test_ground_command.py makes one",
    "apps.zero_shot.zero_shot_classifier.ZeroShotClassifier": "a pretrained model; tests/apps/test_zero_shot.py makes a small one",
    "apps.negation.measure_negation.compare_sentences": "a pretrained model; tests/apps/test_negation_command.py makes one",
    "apps.negation.report_versions.compare_versions": "a pretrained model; tests/apps/test_negation_command.py makes one",
    "apps.card.card_content.measure_zero_shot": "a pretrained model; tests/apps/test_card_command.py makes a small one",
    "apps.image_text_model": "a pretrained model; tests/apps makes small ones",
    "apps.load_model": "a pretrained model; tests/apps/test_load_model.py makes a small one",
    "weights.library_weights.load_library_weights": "downloaded weights; tests/networks/test_timm_encoder.py makes small ones",
    "weights.adapter_files": "adapters of a training; tests/networks/test_lora.py makes small ones",
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
