# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What the evaluation and the inference configs give for a model that the training wrote."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pydicom
import pytest
import torch
from monai.bundle import ckpt_export, onnx_export, verify_net_in_out
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monai_mgca.data import load_datalist
from monai_mgca.weights import load_network


def read_rows(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


def read_metrics(path):
    """Figures by name, of MONAI's metrics.csv."""
    return {name: float(value) for name, value in read_rows(path)}


def read_embeddings(path):
    """Embeddings by image path; the table must be plain numbers."""
    return {row[0]: torch.tensor([float(value) for value in row[1:]]) for row in read_rows(path)}


@pytest.fixture
def copy_of(new_bundle):
    """A fresh bundle with the models of another."""

    def make(other):
        bundle = new_bundle()
        bundle.take_models(other)
        return bundle

    return make


class TestEvaluation:
    def test_repeats_the_validation_of_the_training(self, trained, copy_of):
        bundle = copy_of(trained.bundle)
        # the file of the best epoch is what is evaluated
        evaluator = trained.workflow.parser.get_parsed_content("validate#evaluator")
        bundle.run("train", "evaluate")
        figures = read_metrics(bundle.path("eval", "metrics.csv"))
        assert figures["val_loss"] == pytest.approx(evaluator.state.best_metric, abs=1e-4)
        events = EventAccumulator(str(trained.bundle.path("eval")), size_guidance={"scalars": 0}).Reload()
        epoch = evaluator.state.best_metric_epoch
        compared = set()
        for tag in events.Tags()["scalars"]:
            if tag in figures:
                (logged,) = [scalar.value for scalar in events.Scalars(tag) if scalar.step == epoch]
                assert figures[tag] == pytest.approx(logged, rel=1e-3, abs=1e-4), tag
                compared.add(tag)
        assert compared >= {"val_loss", "val_token_loss", "val_image_collapse", "val_image_to_report_recall_at_5"}


class TestInference:
    def images(self, sample, folder, count=5):
        folder.mkdir()
        for path in sorted((sample / "images").iterdir())[:count]:
            shutil.copy(path, folder)
        return folder

    def test_equals_the_network(self, trained, copy_of, tmp_path):
        bundle, images = copy_of(trained.bundle), self.images(trained.bundle.data, tmp_path / "images")
        bundle.run("inference", kind="infer", dataset_dir=str(images), num_workers=0, batch_size=2)
        found = read_embeddings(bundle.path("eval", "embeddings.csv"))
        assert sorted(found) == sorted(str(path) for path in images.iterdir())

        parser = trained.workflow.parser
        network = parser.get_parsed_content("network_def").eval()
        load_network(network, bundle.path("models", "model_pretrain.pt"))
        transform = parser.get_parsed_content("validate#preprocessing")
        for path, embedding in found.items():
            image = transform({"image": path, "report": "the lungs are clear."})["image"]
            with torch.no_grad():
                expected = network.encode_image(image[None].as_tensor())["image_embedding"][0]
            torch.testing.assert_close(embedding, expected, rtol=0, atol=1e-5)
            assert embedding.norm() == pytest.approx(1, abs=1e-5)

    def test_model_json_holds_the_architecture(self, new_bundle, tmp_path):
        bundle = new_bundle()
        bundle.run("train", image_encoder="vit_compact", embed_dim=64, in_channels=3)
        images = self.images(bundle.data, tmp_path / "images")
        workflow = bundle.run("inference", kind="infer", dataset_dir=str(images), num_workers=0)
        assert type(workflow.parser.get_parsed_content("network_def").image_encoder).__name__ == "ViTImageEncoder"
        found = read_embeddings(bundle.path("eval", "embeddings.csv"))
        assert len(found) == 5
        assert all(len(embedding) == 64 for embedding in found.values())

    def test_dicom_and_png_in_subfolders(self, trained, copy_of, tmp_path):
        bundle, images = copy_of(trained.bundle), self.images(trained.bundle.data, tmp_path / "images", 2)
        png = sorted(images.iterdir())[0]
        (images / "ward").mkdir()
        self.write_dicom(png, images / "ward" / "film.dcm")
        (images / "notes.txt").write_text("no image")
        bundle.run("inference", kind="infer", dataset_dir=str(images), num_workers=0)
        found = read_embeddings(bundle.path("eval", "embeddings.csv"))
        assert len(found) == 3
        torch.testing.assert_close(found[str(images / "ward" / "film.dcm")], found[str(png)], rtol=0, atol=1e-4)

    def write_dicom(self, png, path):
        """The pixels of an 8-bit PNG, stretched to its whole range as the reader leaves them, as DICOM."""
        pixels = np.array(Image.open(png).convert("L"))
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        dataset.Modality, dataset.PhotometricInterpretation = "DX", "MONOCHROME2"
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *pixels.shape, 1
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
        dataset.WindowCenter, dataset.WindowWidth = 128, 256
        dataset.PixelData = pixels.tobytes()
        dataset.is_little_endian, dataset.is_implicit_VR = True, False
        if int(pydicom.__version__.split(".")[0]) >= 3:
            dataset.save_as(path, enforce_file_format=True)
        else:
            dataset.save_as(path, write_like_original=False)


class TestCommandsOfMonai:
    """MONAI's own checks and exporters, on the inference config's default network."""

    @pytest.fixture(scope="class")
    def bundle(self, new_bundle):
        bundle = new_bundle()
        network = self.network(bundle)
        bundle.path("models").mkdir()
        torch.save(network.state_dict(), bundle.path("models", "model.pt"))
        return bundle

    def network(self, bundle, **overrides):
        torch.manual_seed(0)
        workflow = bundle.workflow("inference", kind="infer", **overrides)
        workflow.parser.parse(reset=True)
        return workflow.parser.get_parsed_content("network_def").eval()

    def arguments(self, bundle):
        return {
            "net_id": "network_def",
            "meta_file": str(bundle.path("configs", "metadata.json")),
            "config_file": str(bundle.path("configs", "inference.json")),
            "bundle_root": str(bundle.root),
        }

    def expected(self, bundle, image):
        network = self.network(bundle)
        load_network(network, bundle.path("models", "model.pt"))
        with torch.no_grad():
            return network(image)

    def test_changelog_knows_the_version(self, bundle):
        document = json.loads(bundle.path("configs", "metadata.json").read_text())
        assert document["version"] in document["changelog"]

    def test_net_in_out(self, bundle):
        verify_net_in_out(device="cpu", **self.arguments(bundle))

    @pytest.mark.parametrize("image_encoder", ["resnet_compact", "vit_compact"])
    def test_torchscript(self, bundle, tmp_path, image_encoder):
        network = self.network(bundle, image_encoder=image_encoder)
        torch.save(network.state_dict(), tmp_path / "model.pt")
        ckpt_export(
            filepath=str(tmp_path / "model.ts"),
            ckpt_file=str(tmp_path / "model.pt"),
            use_trace=True,
            input_shape=[2, 1, 128, 128],
            image_encoder=image_encoder,
            **self.arguments(bundle),
        )
        exported = torch.jit.load(str(tmp_path / "model.ts")).eval()
        for batch in (1, 3):  # not only the size that was traced
            image = torch.rand(batch, 1, 128, 128) * 2 - 1
            with torch.no_grad():
                torch.testing.assert_close(exported(image), network(image), rtol=0, atol=1e-4)

    def test_onnx(self, bundle, tmp_path):
        onnxruntime = pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
        onnx_export(
            filepath=str(tmp_path / "model.onnx"),
            ckpt_file=str(bundle.path("models", "model.pt")),
            use_trace=True,
            input_shape=[1, 1, 128, 128],
            **self.arguments(bundle),
        )
        image = torch.rand(1, 1, 128, 128) * 2 - 1
        session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
        (output,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        torch.testing.assert_close(torch.from_numpy(output), self.expected(bundle, image), rtol=0, atol=1e-4)


def test_evaluation_of_another_section(trained, copy_of):
    bundle = copy_of(trained.bundle)
    workflow = bundle.run("train", "evaluate", section="test")
    data = workflow.parser.get_parsed_content("validate#data")
    wanted = load_datalist(bundle.data / "datalist.json", "test")
    assert [item["image"] for item in data] == [item["image"] for item in wanted]
