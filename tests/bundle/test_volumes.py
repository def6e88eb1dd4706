# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Pretraining on volumes: train_volume.json over train.json, from files to a 3D network of MONAI."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.networks.nets import UNETR, FlexibleUNet
from sklearn.metrics import roc_auc_score

from monai_mgca.__main__ import main
from monai_mgca.apps import ZeroShotClassifier, load_pretrained, read_reference
from monai_mgca.data import find_volumes, load_datalist
from monai_mgca.data.dataset import hash_item
from monai_mgca.utils import read_settings
from monai_mgca.utils.errors import first_cause
from monai_mgca.weights import load_encoder

pytest.importorskip("itk")
CONFIGS = ("train", "train_volume")
TINY = {"image_size": 32, "voxel_size": 12.0, "num_workers": 0}


@pytest.fixture
def workflow_of(new_bundle, volumes):
    """An uninitialized workflow of the configs on a small sample."""

    def make(*names: str, bundle=None, **overrides):
        overrides = {**TINY, "dataset_dir": str(volumes), **overrides}
        return (bundle or new_bundle()).workflow(*CONFIGS, *names, **overrides)

    return make


@pytest.fixture(scope="module")
def trained_volumes(new_bundle, volumes):
    """A bundle after a training of one epoch with each kind of encoder, and with one that sees windows."""
    bundle, windows = new_bundle(), {"image_encoder": "vit_compact", "window_size": 16, "patch_size": 8}
    for name, kind in {**{n: {"image_encoder": n} for n in ("resnet_tiny", "vit_compact")}, "windows": windows}.items():
        bundle.run(*CONFIGS, dataset_dir=str(volumes), **TINY, **kind, ckpt_dir=str(bundle.path("models", name)))
    return bundle


def test_properties(workflow_of):
    workflow = workflow_of()
    workflow.initialize()
    assert workflow.check_properties() == []


def test_what_a_training_writes(trained_volumes):
    settings = read_settings(trained_volumes.path("models", "resnet_tiny", "model.json"))
    assert settings["spatial_dims"] == 3
    assert settings["image_size"] == 32
    assert settings["resize_size"] == [37] * 3
    assert (settings["voxel_size"], settings["hu_min"], settings["hu_max"], settings["patch_size"]) == (
        12,
        -1000,
        400,
        16,
    )
    state = torch.load(trained_volumes.path("models", "resnet_tiny", "model.pt"), weights_only=True)
    assert state["image_encoder.backbone.conv1.weight"].ndim == 5
    assert all(torch.isfinite(value).all() for value in state.values())


@pytest.mark.parametrize("encoder", ["resnet_tiny", "vit_compact"])
def test_both_encoders_are_loaded_as_they_were_trained(trained_volumes, volumes, encoder):
    path = trained_volumes.path("models", encoder, "model_pretrain.pt")
    model = load_pretrained(path, "cpu")
    assert model.spatial_dims == 3
    kept = read_reference(path)["attribution"]
    assert len(kept) == 4, "what is usual for grounding is kept beside the weights"
    assert all(torch.isfinite(part).all() for part in kept)
    state = torch.load(path, weights_only=True)
    assert all(torch.equal(value, state[name]) for name, value in model.network.state_dict().items())
    found = model.embed_images([entry["image"] for entry in load_datalist(volumes / "datalist.json", "test")])
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(found)))


class TestIntoMonai:
    """Every tensor of the 3D encoder is accounted for."""

    def test_flexible_unet(self, trained_volumes):
        path = trained_volumes.path("models", "resnet_tiny", "model.pt")
        state = torch.load(path, weights_only=True)
        source = {k.removeprefix("image_encoder.backbone."): v for k, v in state.items() if "backbone" in k}
        unet = FlexibleUNet(1, 2, backbone="mgca_resnet_tiny", pretrained=False, spatial_dims=3).eval()
        assert load_encoder(unet, path) == len(source) == len(unet.encoder.state_dict())
        for name, value in unet.encoder.backbone.state_dict().items():
            assert torch.equal(value, source[name]), name
        with torch.no_grad():
            assert unet(torch.rand(1, 1, 32, 32, 32)).shape == (1, 2, 32, 32, 32)

    def test_unetr(self, trained_volumes):
        path = trained_volumes.path("models", "vit_compact", "model.pt")
        state = torch.load(path, weights_only=True)
        source = {k.removeprefix("image_encoder.backbone."): v for k, v in state.items() if "backbone" in k}
        sizes = {"hidden_size": 128, "mlp_dim": 512, "num_heads": 4, "feature_size": 4, "qkv_bias": True}
        unetr = UNETR(1, 2, img_size=(32, 32, 32), spatial_dims=3, **sizes)
        # UNETR's transformer has twelve blocks, and the compact one four
        unetr.vit.blocks = unetr.vit.blocks[:4]
        assert load_encoder(unetr, path) == len(source) - 1  # all but [CLS], which UNETR has not
        moved = unetr.vit.state_dict()
        assert all(torch.equal(value, moved[name]) for name, value in source.items() if name != "cls_token")


def test_step_of_many_tokens_moves_every_parameter(workflow_of):
    """A vision transformer with small patches: 3D tokens go through matching, all losses and back."""
    workflow = workflow_of(image_encoder="vit_compact", image_size=32, patch_size=4, batch_size=2, cache="none")
    workflow.initialize()
    network, loss = (workflow.parser.get_parsed_content(name) for name in ("network", "loss"))
    items = [workflow.parser.get_parsed_content("train#dataset")[i] for i in range(2)]
    names = ("image", "input_ids", "attention_mask", "word_ids")
    output = network.train()(*(torch.stack([torch.as_tensor(item[name]) for item in items]) for name in names))
    assert output["image_tokens"].shape == (2, 512, 128)
    total = loss(output)
    total.backward()
    assert torch.isfinite(total)
    assert min(loss.terms.values()) > 0
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    "overrides",
    [{"image_size": [32, 16, 32], "augment": True}, {"in_channels": 3, "cache": "disk", "channels_last": True}],
    ids=["box, augmented", "three channels, disk, channels last"],
)
def test_other_settings_run(workflow_of, overrides):
    workflow = workflow_of(**overrides)
    workflow.initialize()
    workflow.run()
    shape = workflow.parser.get_parsed_content("train#dataset")[0]["image"].shape
    size = overrides.get("image_size", 32)
    assert tuple(shape) == (overrides.get("in_channels", 1), *(size if isinstance(size, list) else [size] * 3))
    assert np.isfinite(workflow.parser.get_parsed_content("train#trainer").state.output[0]["loss"].detach())


def test_window_is_applied_once(workflow_of, tmp_path):
    """-1000 and 400 HU become -1 and 1, and what is beyond them too."""
    values = np.full((16, 16, 16), -300, np.int16)  # the middle of the window
    values[:4], values[12:] = -2000, 3000
    nibabel.save(nibabel.Nifti1Image(values, np.diag([12, 12, 12, 1])), tmp_path / "v.nii")
    entries = [{"id": "1", "image": "v.nii", "report": "Small left pleural effusion.", "patient": "1"}]
    (tmp_path / "datalist.json").write_text(
        json.dumps({"training": entries, "validation": [{**entries[0], "patient": "2"}]})
    )
    overrides = {"image_size": 16, "resize_size": [16] * 3, "cache": "none"}
    workflow = workflow_of(data_list_file_path=str(tmp_path / "datalist.json"), **overrides)
    workflow.parser["train#data"] = f"$monai_mgca.data.load_datalist('{tmp_path}/datalist.json', 'training')"
    workflow.parser["batch_size"] = 1
    workflow.parser.parse(reset=True)
    image = workflow.parser.get_parsed_content("train#dataset")[0]["image"][0]
    assert image[:4].unique().tolist() == [-1]
    assert image[12:].unique().tolist() == [1]
    torch.testing.assert_close(image[4:12].unique(), torch.zeros(1), atol=0.01, rtol=0)


class TestDicomSeries:
    @pytest.fixture
    def both(self, volumes, write_series, tmp_path):
        """The same studies as NIfTI and as folders of DICOM files: two folders of data."""
        document = json.loads((volumes / "datalist.json").read_text())
        for section in ("training", "validation", "test"):
            document[section] = document[section][:2]
            for entry in document[section]:
                image = nibabel.load(volumes / entry["image"])
                entry["image"] = f"series/{entry['id']}"
                spacing, origin = image.header.get_zooms(), image.affine[:3, 3] * (-1, -1, 1)
                write_series(tmp_path / entry["image"], np.asarray(image.dataobj), spacing, origin)
        (tmp_path / "datalist.json").write_text(json.dumps(document))
        return tmp_path

    def test_gives_what_nifti_gives(self, workflow_of, both, volumes):
        images = []
        for folder in (both, volumes):
            overrides = {"dataset_dir": str(folder), "report_encoder": str(volumes / "report_encoder")}
            workflow = workflow_of(cache="none", **overrides)
            workflow.parser.parse(reset=True)
            images.append(workflow.parser.get_parsed_content("validate#dataset")[0]["image"])
        assert images[0].std() > 0.2
        assert len(find_volumes(both)) == 6 < len(list(both.rglob("*.dcm")))
        torch.testing.assert_close(*images, atol=0.01, rtol=0)

    def test_datalist_from_a_table(self, both, capsys):
        entries = [
            e for part in ("training", "validation", "test") for e in load_datalist(both / "datalist.json", part)
        ]
        with (both / "ct.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["path", "text", "patient_id"])
            rows.writerows([[os.path.relpath(e["image"], both), e["report"], e["patient"]] for e in entries])
        columns = ["--image", "path", "--report", "text", "--patient", "patient_id", "--dataset-dir", str(both)]
        (both / "datalist.json").unlink()
        assert main(["data", "csv", str(both / "ct.csv"), *columns, "--output", str(both / "datalist.json")]) == 0
        assert main(["check", str(both / "datalist.json"), "--volumes"]) == 0
        assert main(["check", str(both / "datalist.json")]) == 1  # a folder is no radiograph
        assert "nothing is broken" in capsys.readouterr().out

    def test_disk_cache_sees_a_changed_slice(self, both):
        entry = load_datalist(both / "datalist.json", "training")[0]
        before = hash_item(entry)
        next(Path(entry["image"]).iterdir()).write_bytes(b"another")
        assert hash_item(entry) != before

    def test_empty_folder_is_refused(self, both):
        entry = json.loads((both / "datalist.json").read_text())["training"][0]
        for file in (both / entry["image"]).iterdir():
            file.unlink()
        with pytest.raises(Exception, match="empty folder"):
            load_datalist(both / "datalist.json", "training")


@pytest.mark.parametrize("name", ["resnet_tiny", "windows"])
def test_evaluation_and_embedding_read_the_settings(trained_volumes, volumes, name):
    """With model.json beside the weights, neither needs options for sizes, windows and voxels."""
    folder = str(trained_volumes.path("models", name))
    output = str(trained_volumes.path("eval"))
    names = [str(trained_volumes.path("configs", f"{name}.json")) for name in (*CONFIGS, "evaluate")]
    settings = {"bundle_root": str(trained_volumes.root), "ckpt_dir": folder, "output_dir": output, "num_workers": 0}
    data = {"dataset_dir": str(volumes), "use_sample": True, "device": "$torch.device('cpu')"}
    workflow = ConfigWorkflow(names, workflow_type="train", logging_file=False, **settings, **data)
    workflow.initialize()
    assert workflow.parser.get_parsed_content("voxel_size") == 12
    assert workflow.parser.get_parsed_content("network_def").window_size == (16 if name == "windows" else None)
    workflow.run()
    assert "val_mean_recall" in Path(output, "metrics.csv").read_text()

    names = [str(trained_volumes.path("configs", f"{name}.json")) for name in ("inference", "inference_volume")]
    settings["dataset_dir"] = str(volumes / "volumes")
    workflow = ConfigWorkflow(names, workflow_type="infer", logging_file=False, **settings)
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    rows = list(csv.reader(Path(output, "embeddings.csv").open()))  # noqa: SIM115
    assert len(rows) == 24
    assert rows[0][0].endswith(".nii.gz")
    vectors = torch.tensor([[float(value) for value in row[1:]] for row in rows])
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(24))


def test_zero_shot_is_measured_by_the_config_of_radiographs(trained_volumes, volumes):
    """The weights alone say that they are of volumes."""
    folder, output = trained_volumes.path("models", "resnet_tiny"), trained_volumes.path("eval", "zero_shot")
    settings = {"dataset_dir": str(volumes), "ckpt_dir": str(folder), "output_dir": str(output)}
    few = {"bootstrap": 0, "num_workers": 0, "device": "$torch.device('cpu')"}
    workflow = trained_volumes.run("evaluate_zero_shot", kind="infer", section="training", **settings, **few)
    with (output / "probabilities.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    model, entries = (
        load_pretrained(folder / "model_pretrain.pt", "cpu"),
        load_datalist(volumes / "datalist.json", "training"),
    )
    classify = ZeroShotClassifier(model, trained_volumes.path("configs", "prompts.json"), ["effusion"])
    wanted = classify.classify(model.embed_images(entries))[:, 0]
    assert [row["image"] for row in rows] == [entry["image"] for entry in entries]
    torch.testing.assert_close(torch.tensor([float(row["effusion"]) for row in rows]), wanted, atol=1e-5, rtol=0)
    labels = [entry["labels"][1] for entry in entries]
    assert workflow.evaluator.state.metrics["val_auroc_effusion"] == pytest.approx(roc_auc_score(labels, wanted))


class TestIntensity:
    """The window of Hounsfield units, or each volume's own range, as of an MR."""

    @pytest.fixture
    def steps_of(self, workflow_of):
        """What is done to a study, one of the studies, and what travels with the weights."""

        def make(**overrides):
            parser = workflow_of(cache="none", **overrides).parser
            parser.parse(reset=True)
            names = ("validate#preprocessing", "train#data", "model_settings")
            steps, data, settings = (parser.get_parsed_content(name) for name in names)
            return steps, data[0], settings

        return make

    def names(self, settings):
        return [step["_target_"].rpartition(".")[2] for step in settings["preprocessing"]]

    def test_window_is_the_default(self, steps_of):
        steps, entry, settings = steps_of()
        named, _, _ = steps_of(intensity="window")
        assert torch.equal(steps(entry)["image"], named(entry)["image"])
        assert settings["intensity"] == "window"
        assert self.names(settings)[:4] == ["LoadVolumed", "Orientationd", "ScaleIntensityRanged", "AreaSpacingd"]

    def test_normalized(self, steps_of, tmp_path):
        steps, entry, settings = steps_of(intensity="normalize")
        place = self.names(settings).index("ScaleIntensityRangePercentilesd")
        assert self.names(settings)[place + 1] == "AreaSpacingd"
        image = steps(entry)["image"]
        assert settings["intensity"] == "normalize"
        assert image.min() < -0.9 < 0.5 < image.max()
        volume = nibabel.load(entry["image"])
        values = np.asarray(volume.dataobj).astype(np.int32)
        nibabel.save(nibabel.Nifti1Image(values * 3 + 5000, volume.affine), tmp_path / "other.nii")
        other = steps({**entry, "image": str(tmp_path / "other.nii")})["image"]
        torch.testing.assert_close(other, image, atol=0.01, rtol=0)

    def test_unknown(self, workflow_of):
        with pytest.raises(RuntimeError) as caught:
            workflow_of(intensity="zscore").initialize()
        assert "intensity must be one of window, normalize" in str(first_cause(caught.value))
