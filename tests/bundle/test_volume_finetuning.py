# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Segmentation and classification of volumes: their configs over those of radiographs, from data to results."""

from __future__ import annotations

import csv
import json
import shutil

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.inferers import SlidingWindowInferer

from monai_mgca.utils import DataError
from monai_mgca.utils.errors import first_cause
from monai_mgca.weights import load_network
from monai_mgca.weights.encoder_weights import find_backbone

pytest.importorskip("itk")
TASKS = ("segmentation", "classification")
FIGURES = {
    "segmentation": {"val_mean_dice", "val_mean_iou", "val_hausdorff_95", "val_surface_dice"},
    "classification": {"val_mean_auroc", "val_mean_ap", "val_auroc_opacity"},
}
# nothing of sizes, windows or voxels: these are the pretraining's
TINY = {"use_sample": True, "epochs": 1, "batch_size": 4, "num_workers": 0, "device": "$torch.device('cpu')"}
TAKEN = {"spatial_dims": 3, "patch_size": 8, "voxel_size": 13.75, "hu_min": -1000, "hu_max": 400, "intensity": "window"}


def workflow_of(bundle, task, *more, **overrides):
    """A workflow of the configs of volumes over those of radiographs, not yet initialized."""
    names = (f"train_{task}", f"train_{task}_volume", *more)
    files = [str(bundle.path("configs", f"{name}.json")) for name in names]
    options = {"bundle_root": str(bundle.root), "dataset_dir": str(bundle.data), **TINY, **overrides}
    return ConfigWorkflow(files, workflow_type="train", logging_file=False, **options)


def run(bundle, task, *more, **overrides):
    workflow = workflow_of(bundle, task, *more, **overrides)
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow


def infer(bundle, task, folder, **overrides):
    """The inference of radiographs, with the weights of volumes."""
    return bundle.run(
        f"inference_{task}",
        kind="infer",
        ckpt_dir=str(bundle.path("models", "volume")),
        dataset_dir=str(folder),
        num_workers=0,
        **overrides,
    )


def part(workflow, name):
    return workflow.parser.get_parsed_content(name)


def pretrained_state(bundle):
    state = torch.load(bundle.path("models", "volume", "model.pt"), weights_only=True)
    prefix = "image_encoder.backbone."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def encoder_of(bundle, task):
    workflow = bundle.workflow(f"inference_{task}", kind="infer", ckpt_dir=str(bundle.path("models", "volume")))
    workflow.parser.parse(reset=True)
    network = part(workflow, "network_def")
    load_network(network, bundle.path("models", "volume", f"model_{task}.pt"))
    return find_backbone(network).state_dict()


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture(
    scope="module",
    params=[("segmentation", "resnet_tiny"), ("segmentation", "vit_compact"), ("classification", "resnet_tiny")],
    ids="-".join,
)
def finetuned(request, start, captured_logs):
    """A finetuning of one epoch with the encoder frozen: task, bundle, and what was logged."""
    task, backbone = request.param
    bundle = start(backbone)
    with captured_logs() as stream:
        run(bundle, task, freeze_encoder=True)
    return task, bundle, stream.getvalue()


class TestFrozen:
    """Training, evaluation and inference, all sizes as in the pretraining."""

    def test_the_encoder_is_the_pretrained_one_bit_for_bit(self, finetuned):
        task, bundle, log = finetuned
        before, after = pretrained_state(bundle), encoder_of(bundle, task)
        assert f"model.pt: {len(before)} tensors moved, frozen" in log
        assert before.keys() == after.keys()
        assert all(torch.equal(value, before[key]) for key, value in after.items())

    def test_settings_travel(self, finetuned):
        task, bundle, _ = finetuned
        settings = json.loads(bundle.path("models", "volume", f"model_{task}.json").read_text())
        assert {key: settings[key] for key in TAKEN} == TAKEN
        assert settings["image_size"] == 32
        names = [step["_target_"].rpartition(".")[2] for step in settings["preprocessing"]]
        assert names[:4] == ["LoadVolumed", "Orientationd", "ScaleIntensityRanged", "AreaSpacingd"]

    def test_evaluation(self, finetuned):
        task, bundle, _ = finetuned
        options = {"bootstrap": 5} if task == "classification" else {}
        workflow = workflow_of(bundle, task, f"evaluate_{task}", **options)
        workflow.initialize()
        assert workflow.check_properties() == []
        workflow.run()
        figures = dict(rows(bundle.path("eval", "volume", task, "metrics.csv")))
        assert figures.keys() >= FIGURES[task]

    def test_inference_by_the_settings_alone(self, finetuned, images):
        task, bundle, _ = finetuned
        workflow = infer(bundle, task, images, **({"overlays": "true"} if task == "segmentation" else {}))
        assert workflow.check_properties() == []
        folder = bundle.path("eval", task)
        if task == "classification":
            header, *values = rows(folder / "probabilities.csv")
            assert header[1:] == ["opacity", "effusion", "pneumothorax", "cardiomegaly", "nodule"]
            assert [row[0] for row in values] == [
                str(images / name) for name in ("a/tall.nii", "flat.nii.gz", "series")
            ]
            assert all(0 <= float(value) <= 1 for row in values for value in row[1:])
            return
        masks = sorted(path.relative_to(folder / "masks").as_posix() for path in folder.rglob("*_mask.*"))
        assert masks == ["a/tall_mask.nii", "flat_mask.nii.gz", "series_mask.nii.gz"]
        assert len(list((folder / "overlays").rglob("*_overlay.png"))) == 3
        for name in ("a/tall.nii", "flat.nii.gz"):
            mask = nibabel.load(folder / "masks" / name.replace(".nii", "_mask.nii"))
            image = nibabel.load(images / name)
            assert mask.shape == image.shape
            np.testing.assert_array_equal(mask.affine, image.affine)
            assert set(np.unique(mask.dataobj)) <= {0, 1}


@pytest.fixture(scope="module")
def images(volumes, tmp_path_factory):
    """A folder of volumes of several sizes, spacings and orientations, and a DICOM series."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "a").mkdir()
    values = np.random.default_rng(0).integers(-1000, 400, (20, 31, 18)).astype(np.int16)
    affine = np.array([[0, 0, 20.0, -5], [-9.0, 0, 0, 6], [0, 11.0, 0, 7], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(values, affine), folder / "a" / "tall.nii")
    nibabel.save(nibabel.Nifti1Image(values[:, :, :5], np.diag([30.0, 13.75, 40, 1])), folder / "flat.nii.gz")
    shutil.copytree(next((volumes / "series").iterdir()), folder / "series")
    return folder


@pytest.mark.parametrize("task", TASKS)
class TestConfigs:
    def test_properties(self, start, task):
        workflow = workflow_of(start(), task, cache="none")
        workflow.initialize()
        assert workflow.check_properties() == []

    def test_without_a_pretraining(self, new_bundle, volumes, task, captured_logs):
        bundle = new_bundle()
        bundle.data = volumes
        with captured_logs() as stream:
            workflow = workflow_of(bundle, task, cache="none")
            workflow.initialize()
        assert "The encoder starts from random weights" in stream.getvalue()
        assert [part(workflow, name) for name in ("encoder", "voxel_size")] == ["resnet_tiny", 8.0]
        assert part(workflow, "image_size") == (32 if task == "segmentation" else 48)
        own = workflow_of(bundle, task, use_sample=False, dataset_dir="ct")
        assert part(own, "encoder") == "resnet18"
        assert part(own, "image_size") == (96 if task == "segmentation" else 160)

    def test_on_disk_and_resumed(self, start, task):
        """What is read back has lost its meta data; masks must still follow the augmentation."""
        bundle, options = start(), {"cache": "disk", "freeze_encoder": False}
        workflow = run(bundle, task, **options)
        cached = [torch.load(file, weights_only=True)["item"] for file in bundle.path("data", "cache").iterdir()]
        assert [item["image"].dtype for item in cached].count(torch.uint8) == 4 * len(
            part(workflow, "train#dataloader")
        )
        workflow = run(bundle, task, epochs=2, resume=True, **options)
        trainer = part(workflow, "train#trainer")
        assert trainer.state.epoch == 2
        assert trainer.state.iteration == 2 * len(part(workflow, "train#dataloader"))
        assert torch.isfinite(torch.as_tensor(trainer.state.output[0]["loss"]))
        assert not torch.equal(encoder_of(bundle, task)["conv1.weight"], pretrained_state(bundle)["conv1.weight"])


class TestPatches:
    """Volumes that are larger than what the network sees."""

    @pytest.fixture(scope="class")
    def workflow(self, start):
        """Voxels so small that a volume has 64 of them along each edge."""
        return workflow_of(start(), "segmentation", voxel_size=6.875, cache="none", augment=False)

    def test_of_the_size_that_the_network_sees(self, workflow):
        patches = part(workflow, "train#dataset")[0]
        assert [tuple(patch["image"].shape) for patch in patches] == [(1, 32, 32, 32)] * 2
        assert [tuple(patch["label"].shape) for patch in patches] == [(1, 32, 32, 32)] * 2
        assert not torch.equal(patches[0]["image"], patches[1]["image"])
        batch = next(iter(part(workflow, "train#dataloader")))
        assert batch["image"].shape == (8, 1, 32, 32, 32)

    def test_validation_sees_the_whole_volume(self, workflow):
        item = part(workflow, "validate#dataset")[0]
        assert item["image"].shape == item["label"].shape == (1, 64, 64, 64)
        inferer = part(workflow, "validate#inferer")
        assert isinstance(inferer, SlidingWindowInferer)
        seen = []
        inferer(item["image"][None], lambda patches: seen.append(patches.shape) or patches)
        assert sum(shape[0] for shape in seen) == 27
        assert {shape[2:] for shape in seen} == {(32, 32, 32)}


@pytest.fixture(scope="module")
def seen_as_they_are(tmp_path_factory):
    """Images that show their masks, of other orders of axes than these, and of voxels of 6 x 9 x 12 mm."""
    data = tmp_path_factory.mktemp("shown")
    entries = []
    for place, axes in enumerate(("LPS", "PIR", "SLA")):
        values = np.zeros((20, 24, 18), dtype=np.uint8)
        values[3:11, 5:9, 4 : 10 + place], values[4:6, 9:20, 5] = 1, 1
        mask = nibabel.Nifti1Image(values, np.array([[6.0, 0, 0, -9], [0, 9, 0, 80], [0, 0, 12, 5], [0, 0, 0, 1]]))
        start, end = nibabel.io_orientation(mask.affine), nibabel.orientations.axcodes2ornt(axes)
        turned = mask.as_reoriented(nibabel.orientations.ornt_transform(start, end))
        nibabel.save(mask, data / f"{place}_mask.nii.gz")
        image = np.where(np.asarray(turned.dataobj) > 0, 400, -1000).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(image, turned.affine), data / f"{place}.nii.gz")
        entry = {"id": str(place), "image": f"{place}.nii.gz", "mask": f"{place}_mask.nii.gz", "report": "Masses."}
        entries.append({**entry, "patient": str(place)})
    trained, *measured = entries
    sections = {"training": [trained], "validation": measured, "test": []}
    (data / "datalist.json").write_text(json.dumps({"mask_classes": ["mass"], **sections}))
    return data


@pytest.mark.parametrize(("voxel_size", "least"), [([6.0, 9.0, 12.0], 1), (8.0, 0.85)])
def test_the_evaluation_measures_on_the_grid_of_the_file(start, seen_as_they_are, voxel_size, least):
    """A network that finds what it is shown: all of it on the file's own grid, and most of it on another one."""
    bundle = start()
    data = {"dataset_dir": str(seen_as_they_are), "label_key": "mask", "voxel_size": voxel_size, "batch_size": 1}
    run(bundle, "segmentation", **data)
    shown = "$lambda image, network: image * 50"
    options = {"dataset_dir": str(seen_as_they_are), "surface_tolerance": 0, "validate#inferer": shown}
    run(bundle, "segmentation", "evaluate_segmentation", **options)
    figures = dict(rows(bundle.path("eval", "volume", "segmentation", "metrics.csv")))
    dice, distance, surface = (float(figures[f"val_{name}"]) for name in ("mean_dice", "hausdorff_95", "surface_dice"))
    assert (dice == 1) if least == 1 else (least < dice < 1)
    assert (distance == 0) if least == 1 else (0 < distance < 13)
    assert (surface == 1) if least == 1 else (0.2 < surface < 1)
    seen = bundle.run(
        "inference_segmentation",
        kind="infer",
        ckpt_dir=str(bundle.path("models", "volume")),
        dataset_dir=str(seen_as_they_are),
        num_workers=0,
        inferer=shown,
    )
    assert len(part(seen, "data")) == 6
    for place in range(3):
        image = nibabel.load(seen_as_they_are / f"{place}.nii.gz")
        mask = nibabel.load(bundle.path("eval", "segmentation", "masks", f"{place}_mask.nii.gz"))
        off = (np.asarray(mask.dataobj) > 0) ^ (np.asarray(image.dataobj) > 0)
        assert off.mean() == 0 if least == 1 else off.mean() < 0.03


def test_broken_files_are_named(start, volumes, tmp_path):
    """A mask that was cut off, a mask of another grid, and a volume that is none."""
    data = tmp_path / "data"
    shutil.copytree(volumes, data)
    entries = json.loads((data / "datalist.json").read_text())["training"][:3]
    cut = data / entries[0]["image"]
    cut.write_bytes(cut.read_bytes()[:-200])
    mask, whole = data / entries[1]["lung_mask"], (data / entries[1]["lung_mask"]).read_bytes()
    image = nibabel.load(mask)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj)[:-4], image.affine), mask)
    bundle = start()
    with pytest.raises(Exception) as caught:  # noqa: PT011
        run(bundle, "segmentation", dataset_dir=str(data))
    error = first_cause(caught.value)
    assert isinstance(error, DataError), repr(error)
    assert entries[1]["lung_mask"] in str(error)
    mask.write_bytes(whole)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        run(bundle, "segmentation", dataset_dir=str(data))
    error = first_cause(caught.value)
    assert isinstance(error, DataError), repr(error)
    assert entries[0]["image"] in str(error)
    assert entries[2]["image"] not in str(error)
    assert not bundle.path("models", "volume", "segmentation").exists()  # nothing was begun


PROCESSES = """
import sys

import torch
from monai.bundle import ConfigWorkflow

task, root, data = sys.argv[1:]
options = dict(bundle_root=root, dataset_dir=data, use_sample=True, device="$torch.device('cpu')", num_workers=0)
own = ["train_" + task, "train_" + task + "_volume"]
for names, more in (
    ([*own, "multi_gpu_train"], dict(batch_size=4, epochs=1)),
    ([*own, "evaluate_" + task, "multi_gpu_evaluate"], dict(bootstrap=5) if task == "classification" else {}),
):
    workflow = ConfigWorkflow(
        [f"{root}/configs/{name}.json" for name in names], workflow_type="train", logging_file=False, **options, **more
    )
    workflow.initialize()
    assert workflow.check_properties() == [], workflow.check_properties()
    workflow.run()
    torch.distributed.barrier()  # the first process writes the network that all evaluate
workflow.finalize()  # once: a process group that is made again would find the addresses of the first
"""


@pytest.mark.multiprocess
@pytest.mark.parametrize("task", TASKS)
def test_two_processes(start, torchrun, tmp_path, task):
    """Trained and evaluated by two processes; one process evaluates the same network to the same figures."""
    bundle = start()
    (tmp_path / "run.py").write_text(PROCESSES)
    done = torchrun(str(tmp_path / "run.py"), task, str(bundle.root), str(bundle.data), processes=2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    table = bundle.path("eval", "volume", task, "metrics.csv")
    two = dict(rows(table))
    table.unlink()
    run(bundle, task, f"evaluate_{task}", **({"bootstrap": 5} if task == "classification" else {}))
    one = dict(rows(table))
    assert one.keys() == two.keys()
    assert {name: float(value) for name, value in one.items()} == pytest.approx(
        {name: float(value) for name, value in two.items()}, abs=1e-4, nan_ok=True
    )
