# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import gzip
import io
import json
import logging
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from monai_mgca.data import make_sample, make_volume_sample
from monai_mgca.utils import write_settings

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "bundles" / "mgca" / "configs"

# networks and images as small as they can be: what is tested is how the parts are put together
TINY = {
    "outlier_images": 0,  # tests/bundle/test_outliers.py fits it
    "image_encoder": "resnet_tiny",
    "image_size": 32,
    "max_length": 40,
    "hidden_dim": 32,
    "num_prototypes": 16,
    "batch_size": 8,
    "epochs": 1,
    "device": "$torch.device('cpu')",
}
CANARIES = ("Canarywordium", "patient-canary-4711")


@contextmanager
def _captured_logs() -> Iterator[io.StringIO]:
    """All that is logged, at INFO and above, without the handlers of pytest."""
    stream, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(stream), root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


@dataclass
class Bundle:
    """A copy of the bundle in a folder of its own, with the sample of the session."""

    root: Path
    data: Path

    def workflow(self, *names: str, kind: str = "train", **overrides: Any) -> ConfigWorkflow:
        """A workflow of the named configs with tiny settings, not yet initialized."""
        files = [str(self.root / "configs" / f"{name}.json") for name in names]
        overrides = {"bundle_root": str(self.root), **overrides}
        if kind == "train":
            keys, *others = (json.loads(Path(file).read_text()).keys() for file in files)
            tiny = {key: value for key, value in TINY.items() if key in keys}
            # an evaluation's is the one that was trained; of other data the default is looked at
            if not overrides.get("use_sample", True) or any("image_encoder" in other for other in others):
                tiny.pop("image_encoder", None)
            overrides = {**tiny, "dataset_dir": str(self.data), "use_sample": True, **overrides}
        return ConfigWorkflow(
            files[0] if len(files) == 1 else files, workflow_type=kind, logging_file=False, **overrides
        )

    def run(self, *names: str, kind: str = "train", **overrides: Any) -> ConfigWorkflow:
        """Initialize, run and finalize such a workflow."""
        workflow = self.workflow(*names, kind=kind, **overrides)
        workflow.initialize()
        workflow.run()
        workflow.finalize()
        return workflow

    def take_models(self, other: Bundle) -> None:
        """Copy what another bundle's training wrote."""
        shutil.copytree(other.path("models"), self.path("models"))

    def path(self, *parts: str) -> Path:
        """A path in the bundle."""
        return self.root.joinpath(*parts)


@dataclass
class Trained:
    """A tiny training that is done: its bundle, its workflow and all that it logged."""

    bundle: Bundle
    workflow: ConfigWorkflow
    log: str


MADE: list[Path] = []


@pytest.fixture(autouse=True)
def _around(global_state: None) -> Iterator[None]:
    """What a config sets for its process is undone, and the bundles go that were made for this test alone."""
    shared = len(MADE)  # by fixtures of modules and of the session, which come before this one
    yield
    for root in MADE[shared:]:
        shutil.rmtree(root)
    del MADE[shared:]


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small built-in sample: 36 studies to train with, 6 to validate."""
    folder = tmp_path_factory.mktemp("bundle_sample")
    make_sample(folder, size=48, image_size=64, progress=False)
    return folder


@pytest.fixture(scope="session")
def new_bundle(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Callable[[], Bundle]:
    """Makes a fresh copy of the bundle's configs at each call."""

    def make() -> Bundle:
        MADE.append(tmp_path_factory.mktemp("bundle"))
        root = MADE[-1] / "mgca"
        shutil.copytree(CONFIGS, root / "configs")
        return Bundle(root, sample)

    return make


# of what a finetuning of volumes starts from
OF_VOLUMES = {"image_size": 32, "patch_size": 8, "voxel_size": 13.75}


@pytest.fixture(scope="session")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small sample of volumes: 24 studies of 32 voxels of 13.75 mm."""
    return make_volume_sample(tmp_path_factory.mktemp("ct"), 24, 32, progress=False).parent


@pytest.fixture(scope="session")
def start(new_bundle: Callable[[], Bundle], volumes: Path) -> Callable[..., Bundle]:
    """Makes a fresh bundle with the model.pt that a pretraining on volumes writes, of random weights."""

    def make(backbone: str = "resnet_tiny") -> Bundle:
        bundle = new_bundle()
        bundle.data = volumes
        torch.manual_seed(0)
        workflow = bundle.workflow("train", "train_volume", image_encoder=backbone, **OF_VOLUMES)
        workflow.parser.parse(reset=True)
        folder = bundle.path("models", "volume")
        folder.mkdir(parents=True)
        torch.save(workflow.parser.get_parsed_content("embedder").state_dict(), folder / "model.pt")
        write_settings(folder / "model.json", workflow.parser.get_parsed_content("model_settings"))
        return bundle

    return make


@pytest.fixture(scope="session")
def trained(new_bundle: Callable[[], Bundle]) -> Trained:
    """A training of three epochs with the prototypes frozen in the first, and with the encoder that is the default."""
    bundle, encoder = new_bundle(), json.loads((CONFIGS / "train.json").read_text())["image_encoder"]
    with _captured_logs() as stream:
        workflow = bundle.run("train", epochs=3, image_encoder=encoder, outlier_images=2048)
    return Trained(bundle, workflow, stream.getvalue())


@pytest.fixture(scope="session")
def canary_data(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 16 studies whose reports and patient ids hold words that nothing may log."""
    folder = tmp_path_factory.mktemp("canary") / "data"
    shutil.copytree(sample, folder)
    document = json.loads((folder / "datalist.json").read_text())
    for section, count in (("training", 8), ("validation", 4), ("test", 4)):
        document[section] = document[section][:count]
        for i, entry in enumerate(document[section]):
            entry["report"] = f"{CANARIES[0]} {i} {entry['report']}"
            entry["patient"] = f"{CANARIES[1]}-{section}"
    (folder / "datalist.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="session")
def captured_logs() -> Callable[[], Any]:
    """A context manager that gives a stream of all that is logged."""
    return _captured_logs


@pytest.fixture(scope="session")
def canaries() -> tuple[str, ...]:
    """The words that are in the reports and patient ids of ``canary_data``."""
    return CANARIES


HEADER = ("PatientID", "PatientName", "PatientBirthDate", "PatientAge", "StudyDate", "AccessionNumber")
TEXTS = ("StudyDescription", "ImageComments", "InstitutionName", "ReferringPhysicianName", "StudyInstanceUID")


def _write_with_header(path: Path, pixels: Any, words: str, patient: str, save_dicom: Callable[..., Path]) -> None:
    """Gray levels (H, W) in the format that the path's ending names, with words wherever its header has room."""
    if path.suffix == ".dcm":
        import pydicom

        with pydicom.config.disable_value_validation():  # what a date or a UID may not be is in many a file
            save_dicom(path, pixels, **dict.fromkeys(HEADER, patient), **dict.fromkeys(TEXTS, words))
    elif path.suffix == ".gz":
        image = nib.Nifti1Image(pixels.T[..., None], np.eye(4))
        image.header["descrip"], image.header["intent_name"] = f"{words} {patient}", patient[:15]
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", f"{words} {patient}".encode()))
        nib.save(image, path)
    elif path.suffix == ".png":
        notes = PngInfo()
        notes.add_text("Comment", words)
        notes.add_text(patient, patient, zip=True)
        Image.fromarray(pixels).save(path, pnginfo=notes)
    else:
        tags = Image.Exif()
        tags[0x010E], tags[0x013B] = words, patient  # the description, the artist
        options = {"exif": tags, "quality": 95} if path.suffix == ".jpg" else {"tiffinfo": dict(tags)}
        Image.fromarray(pixels).save(path, **options)


@pytest.fixture(scope="session")
def studies(sample: Path, save_dicom: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample with canaries in reports, phrases and patient ids, and in the headers of its images of all formats."""
    words, patient = CANARIES
    folder = tmp_path_factory.mktemp("canary_studies") / "data"
    shutil.copytree(sample, folder)
    document = json.loads((folder / "datalist.json").read_text())
    for section in ("training", "validation", "test"):
        for place, entry in enumerate(document[section]):
            entry["report"], entry["patient"] = f"{words} {place} {entry['report']}", f"{patient}-{section}-{place}"
            entry["box_phrases"] = [f"{phrase} {words}" for phrase in entry["box_phrases"]]
            name = entry["image"].replace(".png", (".dcm", ".png", ".jpg", ".nii.gz", ".tif")[place % 5])
            pixels = np.asarray(Image.open(folder / entry["image"]))
            (folder / entry["image"]).unlink()
            _write_with_header(folder / name, pixels, words, patient, save_dicom)
            entry["image"] = name
    (folder / "datalist.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def all_output(caplog: Any, capfd: Any, recwarn: Any) -> Callable[[], str]:
    """All that was logged from DEBUG on, all warnings, and all that went to stdout and stderr, from C too."""
    caplog.set_level(logging.DEBUG)
    return lambda: caplog.text + "".join(capfd.readouterr()) + "\n".join(str(w.message) for w in recwarn.list)


@pytest.fixture(scope="session")
def holding() -> Callable[..., list[str]]:
    """Which of the canaries a text or a folder's files, contents and names, hold; what is packed is unpacked."""

    def found(place: str | Path, but: Sequence[str] = ()) -> list[str]:
        low = [word.lower() for word in CANARIES]
        if isinstance(place, str):
            return [f"{word}: {line}" for line in place.lower().splitlines() for word in low if word in line]
        files = [p for p in sorted(place.rglob("*")) if p.is_file() and p.name not in but]
        assert files, f"nothing was written to {place}"
        kept = []
        for path in files:
            content = path.read_bytes()
            content = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).lower()
            name = str(path.relative_to(place)).lower()
            kept += [f"{path}: {word}" for word in low if word in name or word.encode() in content]
        return kept

    return found


@pytest.fixture(scope="session")
def command(forks: Any) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a module of Python in a process of its own, with the repository on its path and no network."""

    def run(*arguments: str, cwd: Path, timeout: int = 240) -> subprocess.CompletedProcess[str]:
        return forks.run("-m", *arguments, cwd=cwd, timeout=timeout)

    return run


@pytest.fixture(scope="session")
def torchrun(forks: Any) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program in several processes, which know of each other."""

    def run(*arguments: str, processes: int, cwd: Path) -> subprocess.CompletedProcess[str]:
        return forks.run_together(*arguments, processes=processes, cwd=cwd)

    return run
