# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from commands import Command, ForkServer
from commands import environment as run_environment
from monai.bundle import ConfigParser, ConfigWorkflow
from PIL import Image

from monai_mgca.data import make_sample
from monai_mgca.io.geometry import Geometry, write_label_map
from monai_mgca.utils import write_settings

from ..tiny_pretraining import make_volume_pretraining
from .served_studies import write_studies
from .volume_studies import write_volume_task

pytest.importorskip("monailabel", reason="MONAI Label is not installed: on Python 3.13 it needs a line of its own")
requests = pytest.importorskip("requests")

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "bundles" / "mgca" / "configs"
CLASSES = {"segmentation": ["lung"], "detection": ["nodule", "effusion"], "classification": ["effusion", "device"]}


@pytest.fixture(autouse=True)
def _global_state(global_state: None) -> None:
    """Around every test here."""


@pytest.fixture(scope="session")
def make_label_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes the folder of a bundle: a tiny pretraining on the sample, random weights of every task.

    Arguments are the image encoder of all networks and their image size.
    """

    def make(encoder: str = "", image_size: int = 64) -> Path:
        folder = tmp_path_factory.mktemp("label")
        root, data = folder / "mgca", folder / "sample"
        shutil.copytree(CONFIGS, root / "configs")
        make_sample(data, size=48, image_size=64, progress=False)
        tiny = {
            "image_size": 32,
            "max_length": 40,
            "hidden_dim": 32,
            "num_prototypes": 16,
            "batch_size": 8,
            "epochs": 1,
        }
        if encoder:
            tiny |= {"image_encoder": encoder, "image_encoder_weights": None, "image_size": image_size}
        workflow = ConfigWorkflow(
            str(root / "configs" / "train.json"),
            workflow_type="train",
            logging_file=False,
            bundle_root=str(root),
            dataset_dir=str(data),
            use_sample=True,
            device="$torch.device('cpu')",
            **tiny,
        )
        hook = sys.excepthook
        workflow.initialize()
        workflow.run()
        workflow.finalize()
        sys.excepthook = hook
        for task in CLASSES:
            write_task(root, task, encoder or "resnet_compact", image_size)
        return root

    return make


def write_task(root: Path, task: str, encoder: str, image_size: int) -> None:
    """Write a network of a task with random weights that finds something in every image."""
    settings = {"image_encoder": encoder, "image_size": image_size, "in_channels": 1, "classes": CLASSES[task]}
    write_settings(root / "models" / f"model_{task}.json", settings)
    parser = ConfigParser()
    parser.read_config(root / "configs" / f"inference_{task}.json")
    parser["bundle_root"] = str(root)
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def").eval()
    if task == "segmentation":  # some of an image is inside the mask, some is not
        last = [value for key, value in network.named_parameters() if key.endswith("bias")][-1]
        with torch.no_grad():
            last -= network(torch.rand(1, 1, image_size, image_size) * 2 - 1).median()
    if task == "detection":  # a new one finds nothing
        next(value for key, value in network.named_parameters() if key.endswith("cls_logits.bias")).data += 4
    torch.save(network.state_dict(), root / "models" / f"model_{task}.pt")


@pytest.fixture(scope="session")
def label_bundle(make_label_bundle: Callable[..., Path]) -> Path:
    """The folder of a bundle, to be left as it is."""
    return make_label_bundle()


@pytest.fixture(scope="session")
def volume_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle of volumes, to be left as it is: random weights of the pretraining and of every task."""
    root = tmp_path_factory.mktemp("label") / "mgca"
    shutil.copytree(CONFIGS, root / "configs")
    make_volume_pretraining(root, image_encoder="resnet_compact")
    pretrained = torch.load(root / "models" / "model_pretrain.pt", weights_only=True)
    torch.save({k: v for k, v in pretrained.items() if k.startswith("image_")}, root / "models" / "model.pt")
    for task in CLASSES:
        write_volume_task(root, task)
    return root


@pytest.fixture(scope="session")
def save_image(save_dicom: Callable[..., Path]) -> Callable[..., Path]:
    """Writes a radiograph of random gray levels: path, (W, H) or values (H, W), an affine for NIfTI.

    A DICOM file has a spacing of 0.2 along the rows and 0.3 down them.
    """

    def save(
        path: Path, size: tuple[int, int] = (31, 47), affine: Any = None, values: Any = None, patient: str = ""
    ) -> Path:
        if values is None:
            values = np.random.default_rng(0).integers(0, 255, size[::-1], dtype=np.uint8)
        if path.name.endswith(".nii.gz"):
            nib.save(nib.Nifti1Image(values.T[..., None], np.eye(4) if affine is None else affine), path)
        elif path.suffix == ".dcm":
            save_dicom(path, values, PatientID=patient, PatientName=patient, ImagerPixelSpacing=[0.3, 0.2])
        else:
            Image.fromarray(values).save(path)
        return path

    return save


@pytest.fixture(scope="session")
def make_radiograph(tmp_path_factory: pytest.TempPathFactory, save_image: Callable[..., Path]) -> Callable[..., Any]:
    """Makes a DICOM dataset of a series of its own, as a PACS keeps it; keywords are its tags."""
    pydicom = pytest.importorskip("pydicom")
    folder = tmp_path_factory.mktemp("radiographs")

    def make(size: tuple[int, int] = (31, 47), values: Any = None, patient: str = "", **tags: Any) -> Any:
        data = pydicom.dcmread(save_image(folder / "one.dcm", size, values=values, patient=patient))
        data.StudyInstanceUID, data.SeriesInstanceUID = pydicom.uid.generate_uid(), pydicom.uid.generate_uid()
        for keyword, value in tags.items():
            setattr(data, keyword, value)
        return data

    return make


@dataclass
class Server:
    """A running server: where it is, what it logs to, and the shortest way to ask it."""

    url: str
    app_dir: Path
    output: Path
    process: Command

    def ask(self, method: str, path: str, **arguments: Any) -> requests.Response:
        return requests.request(method, f"{self.url}{path}", timeout=240, **arguments)

    def infer(self, model: str, image: str, output: str = "json", **params: Any) -> requests.Response:
        query = {"image": image, "output": output}
        return self.ask("POST", f"/infer/{model}", params=query, data={"params": json.dumps(params)})

    def wait_for(self, path: str) -> dict[str, Any]:
        """The newest task of a kind, such as "/train/", when it has ended."""
        for _ in range(2000):
            task = self.ask("GET", path).json()
            if task["status"] not in ("SUBMITTED", "RUNNING"):
                break
            time.sleep(0.1)
        return task

    def logs(self) -> str:
        """All that the server and the processes that it started have logged or printed."""
        files = [self.output, *(self.app_dir / "logs").glob("*")]
        return "\n".join(file.read_text(errors="replace") for file in files)


@pytest.fixture(scope="module")
def start_server(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts ``mgca label`` on a free port of this machine; it is stopped after the module's tests."""
    running: list[Server] = []

    def start(studies: str | Path, bundle: Path, *options: str, **environment: str) -> Server:
        folder = tmp_path_factory.mktemp("server")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        command = ["-m", "monai_mgca", "label", "--studies", str(studies), "--bundle", str(bundle)]
        command += ["--app-dir", str(folder / "app"), "--port", port, *options]
        process = forks.start(
            *command,
            cwd=folder,
            env=run_environment(**environment),
            output=folder / "output.txt",
            start_new_session=True,
            forking=True,
        )
        server = Server(f"http://127.0.0.1:{port}", folder / "app", folder / "output.txt", process)
        running.append(server)
        _wait(server)
        return server

    yield start
    for server in running:
        os.killpg(server.process.pid, signal.SIGTERM)
        try:
            server.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.process.pid, signal.SIGKILL)


def _wait(server: Server) -> None:
    for _ in range(1200):
        if server.process.poll() is not None:
            break
        try:
            requests.get(f"{server.url}/info/", timeout=5)
            return
        except requests.ConnectionError:
            time.sleep(0.1)
    pytest.fail(f"the server did not start:\n{server.output.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory, save_image: Callable[..., Path]) -> Path:
    """The folder of the 30 radiographs that a live server serves."""
    return write_studies(tmp_path_factory.mktemp("studies"), save_image)


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Server], studies: Path, label_bundle: Path) -> Server:
    """A live server over them."""
    running = start_server(studies, label_bundle)
    assert running.wait_for("/scoring/")["status"] == "DONE"  # what it does by itself when it starts
    return running


@pytest.fixture
def place(tmp_path: Path, save_image: Callable[..., Path]) -> Path:
    """A folder of studies beside a file that is nobody's business."""
    folder = tmp_path / "studies"
    folder.mkdir()
    for name in ("a.png", "b.jpg", "c.nii.gz", "d.dcm", "E.PNG"):
        save_image(folder / name)
    (folder / "a.txt").write_text("The report of a.")
    save_image(tmp_path / "secret.png")
    return folder


@pytest.fixture(scope="session")
def save_mask() -> Callable[..., Path]:
    """Writes a mask of zeros and ones, by default of the size of the images."""

    def save(path: Path, size: tuple[int, int] = (31, 47)) -> Path:
        mask = np.zeros(size[::-1], np.uint8)
        mask[5:20, 3:9] = 1
        write_label_map(mask, Geometry(size, np.eye(4)), path)
        return path

    return save


@pytest.fixture
def outside(place: Path) -> Path:
    """A folder and a file beside the studies, which nothing may change."""
    folder = place.parent / "outside"
    folder.mkdir()
    (folder / "a.nrrd").write_bytes(b"somebody's own")
    return folder


@pytest.fixture(scope="session")
def everything() -> Callable[[Path], dict[str, bytes]]:
    """Gives the files of a folder with their content."""

    def read(folder: Path) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return read
