# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Detection in volumes: train_detection_volume.json over train_detection.json, from boxes in millimeters to boxes."""

from __future__ import annotations

import csv
import json
import shutil

import monai.bundle
import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.data import load_net_with_metadata

from monai_mgca.transforms import map_boxes
from monai_mgca.utils import DataError
from monai_mgca.utils.errors import first_cause
from monai_mgca.weights import load_network
from monai_mgca.weights.encoder_weights import find_backbone

pytest.importorskip("itk")
CONFIGS = ("train_detection", "train_detection_volume")
# nothing of windows or voxels: these are the pretraining's
TINY = {"use_sample": True, "epochs": 1, "batch_size": 4, "num_workers": 0, "image_size": 32}
TAKEN = {"spatial_dims": 3, "patch_size": 8, "voxel_size": 13.75, "hu_min": -1000, "hu_max": 400, "intensity": "window"}
FIGURES = {"val_map_10", "val_map_30", "val_map_50", "val_map_10_50", "val_froc", "val_froc_1_8", "val_froc_8"}
SIX = ("RAS", "ASR", "SRA", "LPI", "PIR", "ILA")


def workflow_of(bundle, *more, **overrides):
    files = [str(bundle.path("configs", f"{name}.json")) for name in (*CONFIGS, *more)]
    options = {"bundle_root": str(bundle.root), "dataset_dir": str(bundle.data), **TINY, **overrides}
    options["device"] = "$torch.device('cpu')"
    return ConfigWorkflow(files, workflow_type="train", logging_file=False, **options)


def run(bundle, *more, **overrides):
    workflow = workflow_of(bundle, *more, **overrides)
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    workflow.finalize()
    return workflow


def part(workflow, name):
    return workflow.parser.get_parsed_content(name)


def infer(bundle, **overrides):
    folder = str(bundle.path("models", "volume"))
    return bundle.workflow("inference_detection", kind="infer", ckpt_dir=folder, num_workers=0, **overrides)


def figures_of(bundle):
    with bundle.path("eval", "volume", "detection", "metrics.csv").open(newline="") as file:
        return {name: float(value) for name, value in csv.reader(file)}


@pytest.fixture(scope="module", params=["resnet_tiny", "vit_compact"])
def finetuned(request, start, captured_logs):
    """A finetuning of one epoch with the encoder frozen, and what was logged."""
    bundle = start(request.param)
    with captured_logs() as stream:
        run(bundle)
    return bundle, stream.getvalue()


class TestFrozen:
    def test_the_encoder_is_the_pretrained_one_bit_for_bit(self, finetuned):
        bundle, log = finetuned
        state = torch.load(bundle.path("models", "volume", "model.pt"), weights_only=True)
        workflow = infer(bundle, dataset_dir=str(bundle.data / "volumes"))
        workflow.parser.parse(reset=True)
        network = part(workflow, "network_def")
        load_network(network, bundle.path("models", "volume", "model_detection.pt"))
        moved = find_backbone(network).state_dict()
        assert f"model.pt: {len(moved)} tensors moved, frozen" in log
        assert "unable to generate class balanced samples" not in log
        assert all(torch.equal(value, state[f"image_encoder.backbone.{name}"]) for name, value in moved.items())

    def test_settings_travel(self, finetuned):
        bundle, _ = finetuned
        settings = json.loads(bundle.path("models", "volume", "model_detection.json").read_text())
        assert {key: settings[key] for key in TAKEN} == TAKEN
        assert settings["image_size"] == 32
        names = [step["_target_"].rpartition(".")[2] for step in settings["preprocessing"]]
        assert names[:3] == ["LoadVolumed", "RememberAffined", "Orientationd"]
        assert names[4:7] == ["AreaSpacingd", "SpatialPadd", "DivisiblePadd"]

    def test_evaluation(self, finetuned):
        bundle, _ = finetuned
        run(bundle, "evaluate_detection")
        assert figures_of(bundle).keys() >= FIGURES

    def test_inference_finds_the_same_tissue_in_every_orientation(self, finetuned, turned):
        """A volume in six orientations: the same boxes of the world, by nibabel around the same voxels."""
        bundle, _ = finetuned
        workflow = infer(bundle, dataset_dir=str(turned), score_threshold=0.0, overlays=True)
        workflow.initialize()
        assert workflow.check_properties() == []
        workflow.run()
        entries = json.loads(bundle.path("eval", "detection", "detections.json").read_text())
        found = {name: [e for e in entries if e["file_name"] == f"{name}.nii.gz"] for name in SIX}
        assert [len(found[name]) for name in SIX] == [100] * 6
        for name in SIX[1:]:
            corners, expected = (
                np.array([[*e["bbox"][:3], *np.add(e["bbox"][:3], e["bbox"][3:])] for e in found[which][:10]])
                for which in (name, SIX[0])
            )
            np.testing.assert_allclose(corners, expected, atol=0.05)  # half a voxel are 4 to 7 mm
        tissue = {name: inside(turned / f"{name}.nii.gz", found[name][0]["bbox"]) for name in SIX}
        assert len(tissue["RAS"]) > 8
        pictures = bundle.path("eval", "detection", "overlays").iterdir()
        assert sorted(path.name for path in pictures) == sorted(f"{name}_overlay.png" for name in SIX)
        assert all(tissue[name] == tissue["RAS"] for name in SIX)

    def test_export(self, finetuned, tmp_path):
        """What can be exported: all convolutions, at the size of the window."""
        bundle, _ = finetuned
        weights, path = bundle.path("models", "volume", "model_detection.pt"), tmp_path / "model.ts"
        monai.bundle.ckpt_export(
            net_id="export_def",
            filepath=str(path),
            ckpt_file=str(weights),
            meta_file=str(bundle.path("configs", "metadata_detection_volume.json")),
            config_file=str(bundle.path("configs", "inference_detection.json")),
            bundle_root=str(bundle.root),
            ckpt_dir=str(weights.parent),
            use_trace=True,
            input_shape=[1, 1, 32, 32, 32],
        )
        made, metadata, _ = load_net_with_metadata(str(path))
        assert metadata["network_data_format"]["outputs"]["pred"]["num_channels"] == 5 + 6
        workflow = infer(bundle, dataset_dir=str(bundle.data / "volumes"))
        workflow.parser.parse(reset=True)
        network, volume = part(workflow, "export_def").eval(), torch.rand(1, 1, 32, 32, 32) * 2 - 1
        load_network(network, weights)
        with torch.no_grad():
            expected = network(volume)
            torch.testing.assert_close(made.eval()(volume), expected, rtol=1e-3, atol=1e-3)
        assert expected.shape[1] == 5 + 6


def inside(path, bbox):
    """The values of the stored voxels whose centers lie in a box of the world, in the order of their values."""
    image = nibabel.load(path)
    grid = np.moveaxis(np.indices(image.shape), 0, -1)
    centers = nibabel.affines.apply_affine(image.affine, grid)
    low, size = np.array(bbox[:3]), np.array(bbox[3:])
    return sorted(
        np.asarray(image.dataobj)[((centers >= low - 0.05) & (centers <= low + size + 0.05)).all(-1)].tolist()
    )


@pytest.fixture(scope="module")
def turned(volumes, tmp_path_factory):
    """A folder of one volume of unequal sides in six orientations, as nibabel turns them."""
    folder, axcodes = tmp_path_factory.mktemp("turned"), nibabel.orientations.axcodes2ornt
    image = nibabel.load(next(iter(sorted((volumes / "volumes").iterdir()))))
    values = np.asarray(image.dataobj)[2:, :, 3:27]
    affine = np.array([[-13.0, 0, 0, 190], [0, -12.0, 0, 215], [0, 0, 14.0, -170], [0, 0, 0, 1]])
    cut = nibabel.Nifti1Image(values, affine)
    for name in SIX:
        turn = nibabel.orientations.ornt_transform(nibabel.orientations.io_orientation(affine), axcodes(name))
        nibabel.save(cut.as_reoriented(turn), folder / f"{name}.nii.gz")
    return folder


def test_evaluation_measures_in_millimeters(start, tmp_path):
    """A network that finds what is true in the volume that it is given: everything, in files of other axes than its."""
    data, bundle = tmp_path / "data", start()
    shutil.copytree(bundle.data, data)
    bundle.data, codes = data, nibabel.orientations.axcodes2ornt
    for place, entry in enumerate(json.loads((data / "datalist.json").read_text())["validation"]):
        image = nibabel.load(data / entry["image"])
        turn = nibabel.orientations.ornt_transform(
            nibabel.orientations.io_orientation(image.affine), codes(SIX[place % 6])
        )
        nibabel.save(image.as_reoriented(turn), data / entry["image"])
    options = {"label_fraction": 0.5, "freeze_encoder": True}
    run(bundle, **options)
    workflow = workflow_of(bundle, "evaluate_detection")
    workflow.initialize()
    evaluator, seen = part(workflow, "validate#evaluator"), []

    def find(images, network, targets):
        """The true boxes, brought to the network's voxels, in which it answers."""
        seen.extend(images)
        boxes = [map_boxes(target["boxes"], image) for image, target in zip(images, targets, strict=True)]
        return [
            {"boxes": found, "labels": target["labels"], "labels_scores": torch.ones(len(found))}
            for found, target in zip(boxes, targets, strict=True)
        ]

    evaluator.inferer = find
    evaluator.run()
    assert len(seen) == len(part(workflow, "validate#data"))
    for name in ("map_30", "map_50", "froc", "froc_1_8"):
        assert evaluator.state.metrics[f"val_{name}"] == pytest.approx(1)


class TestConfigs:
    def test_defaults(self, new_bundle, volumes, captured_logs):
        bundle = new_bundle()
        bundle.data = volumes
        without = {key: value for key, value in TINY.items() if key != "image_size"}
        files = [str(bundle.path("configs", f"{name}.json")) for name in CONFIGS]
        options = {"bundle_root": str(bundle.root), "dataset_dir": str(volumes), "cache": "none", **without}
        with captured_logs() as stream:
            workflow = ConfigWorkflow(files, workflow_type="train", logging_file=False, **options)
            workflow.initialize()
        assert "The encoder starts from random weights" in stream.getvalue()
        names = ("encoder", "voxel_size", "image_size")
        assert [part(workflow, name) for name in names] == ["resnet_tiny", 8.0, 64]
        options |= {"use_sample": False, "dataset_dir": "ct"}
        own = ConfigWorkflow(files, workflow_type="train", logging_file=False, **options)
        assert [part(own, name) for name in names] == ["resnet18", 2.0, 96]
        assert part(own, "network_def#anchor_sizes") is None

    def test_a_vit_keeps_the_size_of_its_pretraining(self, start):
        bundle = start("vit_compact")
        files = [str(bundle.path("configs", f"{name}.json")) for name in CONFIGS]
        options = {"bundle_root": str(bundle.root), "dataset_dir": str(bundle.data), "use_sample": True}
        workflow = ConfigWorkflow(files, workflow_type="train", logging_file=False, **options)
        assert part(workflow, "image_size") == 32

    def test_resume_and_whole_network(self, start):
        """Patches of smaller voxels, augmented; what comes from the disk has lost its meta data."""
        bundle = start()
        options = {"cache": "disk", "voxel_size": 10.0, "num_samples": 2, "freeze_encoder": False}
        options |= {"label_fraction": 0.5}
        workflow = run(bundle, **options)
        batch = next(iter(part(workflow, "train#dataloader")))
        assert [tuple(item["image"].shape) for item in batch] == [(1, 32, 32, 32)] * 8
        assert all(((item["boxes"] >= 0) & (item["boxes"] <= 32)).all() for item in batch)
        assert part(workflow, "validate#dataset")[0]["image"].shape == (1, 48, 48, 48)
        workflow = run(bundle, **{**options, "epochs": 2}, resume=True)
        trainer = part(workflow, "train#trainer")
        assert trainer.state.epoch == 2
        assert trainer.state.iteration == 2 * len(part(workflow, "train#dataloader"))
        assert np.isfinite(trainer.state.output[0]["loss"].item())


def test_bad_boxes_are_named(start, tmp_path):
    data, bundle = tmp_path / "data", start()
    shutil.copytree(bundle.data, data)
    document = json.loads((data / "datalist.json").read_text())
    wrong = document["training"][2]
    wrong["boxes"], wrong["box_labels"] = [[3, 4, 20, 30]], [0]
    (data / "datalist.json").write_text(json.dumps(document))
    bundle.data = data
    with pytest.raises(Exception) as caught:  # noqa: PT011
        run(bundle)
    error = first_cause(caught.value)
    assert isinstance(error, DataError), repr(error)
    assert wrong["image"] in str(error)
    assert not bundle.path("models", "volume", "detection").exists()  # nothing was begun


PROCESSES = """
import sys

import torch
from monai.bundle import ConfigWorkflow

root, data = sys.argv[1:]
options = dict(bundle_root=root, dataset_dir=data, use_sample=True, device="$torch.device('cpu')", num_workers=0)
configs = ["train_detection", "train_detection_volume"]
for more, own in ((["multi_gpu_train"], dict(image_size=32, batch_size=4, epochs=1)),
                  (["evaluate_detection", "multi_gpu_evaluate"], {})):
    files = [f"{root}/configs/{name}.json" for name in configs + more]
    workflow = ConfigWorkflow(files, workflow_type="train", logging_file=False, **options, **own)
    workflow.initialize()
    assert workflow.check_properties() == [], workflow.check_properties()
    workflow.run()
    torch.distributed.barrier()  # the first process writes the network that all evaluate
workflow.finalize()  # once: a process group that is made again would find the addresses of the first
"""


@pytest.mark.multiprocess
def test_two_processes(start, torchrun, tmp_path):
    """Trained and evaluated by two processes; one process evaluates the same network to the same figures."""
    bundle = start()
    (tmp_path / "run.py").write_text(PROCESSES)
    done = torchrun(str(tmp_path / "run.py"), str(bundle.root), str(bundle.data), processes=2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    two = figures_of(bundle)
    bundle.path("eval", "volume", "detection", "metrics.csv").unlink()
    run(bundle, "evaluate_detection")
    assert figures_of(bundle) == pytest.approx(two, abs=1e-4, nan_ok=True)
