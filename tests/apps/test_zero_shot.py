# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import csv
import json
import logging
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from monai_mgca.__main__ import main
from monai_mgca.apps import Prompts, ZeroShotClassifier, prompted_classes, read_prompts
from monai_mgca.apps.image_text_model import PretrainedModel, image_transform
from monai_mgca.data.sources.ct_rate import CT_RATE_CLASSES
from monai_mgca.networks import MGCA, ReportEncoder, create_image_encoder
from monai_mgca.transforms import TokenizeReport
from monai_mgca.utils import DataError

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "mgca" / "configs"
GOOD = {
    "effusion": {"names": ["Pleural Effusion"], "positive": ["left effusion", "effusion"], "negative": ["no effusion"]},
    "nodule": {"positive": ["nodule"], "negative": ["no nodule", "no left nodule"]},
}


@pytest.fixture(scope="module")
def model():
    from transformers import BertTokenizerFast

    torch.manual_seed(0)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "left", "nodule", "effusion", "no"]
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    network = MGCA(
        create_image_encoder("resnet_tiny"), ReportEncoder({"vocab_size": len(pieces), **sizes}), hidden_dim=32
    )
    tokenizer = BertTokenizerFast(vocab={piece: i for i, piece in enumerate(pieces)})
    settings = {"image_size": 32, "resize_size": 36, "in_channels": 1}
    return PretrainedModel(network, image_transform(settings), TokenizeReport(tokenizer, 12))


@pytest.fixture
def write(tmp_path):
    """Writes a file of prompts."""

    def write(document):
        path = tmp_path / "prompts.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    return write


class TestReadPrompts:
    def test_content(self, write):
        found = read_prompts(write(GOOD))
        assert list(found) == ["effusion", "nodule"]
        assert found["effusion"] == Prompts(("left effusion", "effusion"), ("no effusion",), ("Pleural Effusion",))
        assert found["nodule"].names == ()

    @pytest.mark.parametrize(
        ("document", "message"),
        [
            ("{", r"prompts\.json is not JSON \(.*line 1.*write it as"),
            ("[]", "holds no findings"),
            ("{}", "holds no findings"),
            ({"edema": ["edema"]}, "finding 'edema' must be an object"),
            ({"edema": {"positive": ["edema"]}}, "finding 'edema' has no list 'negative'"),
            ({"edema": {"positive": [], "negative": ["no edema"]}}, "finding 'edema' has an empty list 'positive'"),
            ({"edema": {"positive": "edema", "negative": ["no"]}}, "finding 'edema': 'positive' must be a list"),
            ({"edema": {"positive": [1], "negative": ["no"]}}, "finding 'edema': 'positive' must be a list of texts"),
            ({"edema": {"positive": ["edema", " "], "negative": ["no"]}}, "text 2 of 'positive' is empty"),
            ({"edema": {"postive": ["a"], "negative": ["b"]}}, "unknown key 'postive'; it may have positive"),
        ],
    )
    def test_bad_file(self, write, document, message):
        path = write(document)
        with pytest.raises(DataError, match=message) as error:
            read_prompts(path)
        assert str(path) in str(error.value)

    def test_missing_file(self, tmp_path):
        with pytest.raises(DataError, match=r"no such file of prompts: .*none\.json"):
            read_prompts(tmp_path / "none.json")

    @pytest.mark.parametrize(
        ("name", "findings"),
        [
            ("prompts.json", ["opacity", "effusion", "pneumothorax", "cardiomegaly", "nodule", "device"]),
            ("prompts_ct.json", CT_RATE_CLASSES),
        ],
    )
    def test_shipped_files(self, name, findings):
        prompts = read_prompts(CONFIGS / name)
        assert prompted_classes(CONFIGS / name, findings) == list(findings)
        names = [name.lower() for finding, sides in prompts.items() for name in (finding, *sides.names)]
        assert len(names) == len(set(names))
        for finding, sides in prompts.items():
            texts = [*sides.positive, *sides.negative]
            assert len(texts) == len(set(texts)), finding


class TestPromptedClasses:
    def test_other_names_and_case(self, write, caplog):
        with caplog.at_level(logging.INFO):
            assert prompted_classes(write(GOOD), ["pleural effusion", "mass", "Nodule"]) == [
                "pleural effusion",
                "Nodule",
            ]
        assert "no prompts for them: mass" in caplog.text

    def test_none(self, write):
        with pytest.raises(
            DataError, match=r"prompts\.json has prompts for none of the classes mass; it has them for e"
        ):
            prompted_classes(write(GOOD), ["mass"])


class TestZeroShotClassifier:
    def test_equals_a_slow_computation(self, model, write):
        classify = ZeroShotClassifier(model, write(GOOD), ["nodule", "PLEURAL effusion"], temperature=0.2)
        image = torch.rand(3, 1, 32, 32)
        found = classify(image)
        embedded = [e.tolist() for e in model.network.encode_image(image)["image_embedding"].detach()]
        for column, finding in enumerate(("nodule", "effusion")):
            sides = []
            for side in ("positive", "negative"):
                units = [model.embed_texts([text])[0].tolist() for text in GOOD[finding][side]]
                mean = [sum(values) / len(units) for values in zip(*units, strict=True)]
                length = math.sqrt(sum(value**2 for value in mean))
                sides.append([value / length for value in mean])
            for row, unit in enumerate(embedded):
                near, far = (math.exp(sum(a * b for a, b in zip(unit, side, strict=True)) / 0.2) for side in sides)
                assert found[row, column].item() == pytest.approx(near / (near + far), abs=1e-5)

    def test_as_near_to_both_is_a_half(self, model):
        classify = ZeroShotClassifier(model, {"nodule": Prompts(("nodule",), ("no nodule",))})
        between = torch.nn.functional.normalize(classify.positive + classify.negative, dim=1)
        assert classify.classify(between).item() == pytest.approx(0.5, abs=1e-5)
        assert classify.classify(classify.positive).item() > 0.5 > classify.classify(classify.negative).item()

    def test_temperature_leaves_the_order(self, model, write):
        images = torch.nn.functional.normalize(torch.randn(20, 128), dim=1)
        orders = [
            ZeroShotClassifier(model, write(GOOD), temperature=t).classify(images).argsort(0) for t in (0.07, 1.0)
        ]
        assert torch.equal(*orders)

    def test_embeddings_of_files_and_half_precision(self, model, write):
        classify = ZeroShotClassifier(model, write(GOOD))
        embedding = torch.nn.functional.normalize(torch.randn(4, 128), dim=1)
        with torch.autocast("cpu", torch.bfloat16):
            found = classify.classify(embedding)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, classify.classify(embedding))

    def test_class_without_prompts(self, model, write):
        with pytest.raises(
            DataError, match=r"prompts\.json: the class 'mass' has no prompts; there are some for effusi"
        ):
            ZeroShotClassifier(model, write(GOOD), ["mass"])

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("...", "has no word"),
            ("xyz", "knows no word of 'xyz'"),
            ("left effusion " * 9, "longer than the 12"),
        ],
    )
    def test_text_that_cannot_be_read(self, model, write, text, message):
        path = write({**GOOD, "nodule": {"positive": ["nodule"], "negative": ["no nodule", text]}})
        with pytest.raises(DataError, match=message) as error:
            ZeroShotClassifier(model, path)
        assert str(error.value).startswith(f"{path}: 'negative' of finding 'nodule': ")

    def test_unknown_words_are_reported_once(self, model, write, caplog):
        path = write({"nodule": {"positive": ["solid nodule", "spiky nodule"], "negative": ["no nodule"]}})
        ZeroShotClassifier(model, path)
        (record,) = caplog.records
        assert record.getMessage() == "Of 3 texts the report encoder does not know: solid, spiky."

    def test_bad_temperature(self, model, write):
        with pytest.raises(ValueError, match="must be positive, got 0"):
            ZeroShotClassifier(model, write(GOOD), temperature=0)


class TestCommand:
    @pytest.fixture
    def command(self, model, write, tmp_path, monkeypatch):
        """Runs ``mgca zero-shot`` with the model and our prompts."""
        monkeypatch.setattr("monai_mgca.apps.zero_shot.classify_images.load_pretrained", lambda path: model)
        table = tmp_path / "found.csv"
        options = ["--prompts", str(write(GOOD)), "--output", str(table)]

        def command(*more):
            code = main(["zero-shot", *options, *map(str, more)])
            return code, list(csv.reader(table.open())) if table.exists() else []

        return command

    @pytest.fixture
    def images(self, tmp_path):
        (tmp_path / "images" / "a").mkdir(parents=True)
        for i, name in enumerate(("a/1.png", "2.png")):
            Image.effect_noise((40, 40), 50 + 100 * i).save(tmp_path / "images" / name)
        return tmp_path / "images"

    def test_a_folder(self, command, images, model, write, capsys):
        code, (head, *rows) = command("--images", images)
        assert code == 0
        assert head == ["image", "effusion", "nodule"]
        assert [row[0] for row in rows] == ["2.png", "a/1.png"]
        classify = ZeroShotClassifier(model, write(GOOD)).to(model.device)
        wanted = classify.classify(model.embed_images([images / row[0] for row in rows]).to(model.device))
        torch.testing.assert_close(torch.tensor([list(map(float, row[1:])) for row in rows]), wanted, rtol=0, atol=1e-6)
        assert "found.csv" in capsys.readouterr().out

    def test_images_and_classes_by_name(self, command, images):
        path = str(images / "2.png")
        code, rows = command("--image", path, "--classes", "nodule")
        assert code == 0
        assert rows[0] == ["image", "nodule"]
        assert [row[0] for row in rows[1:]] == [path]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ([], "give --image FILE or --images DIR"),
            (["--image", "nowhere.png"], "There is no image nowhere.png"),
            (["--image", "2.png", "--temperature", "0"], "--temperature must be more than 0"),
        ],
    )
    def test_refused(self, command, images, monkeypatch, capsys, options, message):
        monkeypatch.chdir(images)
        assert command(*options) == (2, [])
        assert message in capsys.readouterr().err
