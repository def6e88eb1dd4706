# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import string
from pathlib import Path

import numpy as np
import pytest
from monai.utils import optional_import
from PIL import Image

from monai_mgca.data.datalist import content_hash, load_datalist, read_datalist
from monai_mgca.data.entry import SECTIONS
from monai_mgca.data.find_dataset import resolve_dataset
from monai_mgca.data.sample.case import CLASSES, Anatomy, Finding, draw_anatomy, draw_findings
from monai_mgca.data.sample.findings import draw_study
from monai_mgca.data.sample.radiographs import draw_sheet, make_sample
from monai_mgca.data.sample.wording import vocabulary, write_report
from monai_mgca.data.split import count_shared_patients
from monai_mgca.utils import DataError

transformers, has_transformers = optional_import("transformers")

SIZE = 40
PLAIN = Anatomy(False, 1.0, "normal", 0.43, False, "", "", 0.3)


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    return make_sample(tmp_path_factory.mktemp("sample"), size=SIZE, image_size=96, num_workers=2, progress=False)


def entries_of(datalist: Path) -> list[dict]:
    document = read_datalist(datalist)
    return [entry for section in SECTIONS for entry in document[section]]


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.asarray(image)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def draw(*findings: Finding, size: int = 128, seed: int = 0):
    return draw_study(PLAIN, findings, size, np.random.default_rng(seed))


class TestMakeSample:
    def test_datalist(self, sample):
        document = read_datalist(sample)
        splits = {section: document[section] for section in SECTIONS}
        assert document["source"] == "sample"
        assert document["classes"] == document["box_classes"] == list(CLASSES)
        assert document["hash"] == content_hash(splits)
        assert sum(document["counts"].values()) == SIZE
        assert document["dropped"] == {}
        assert 0.6 * SIZE <= document["counts"]["training"] <= 0.9 * SIZE
        assert count_shared_patients(splits) == 0
        entries = entries_of(sample)
        assert len({e["id"] for e in entries}) == SIZE
        assert len({e["patient"] for e in entries}) == SIZE - SIZE // 5  # some patients have two studies
        loaded = load_datalist(sample, "training", keys=("image", "lung_mask", "finding_mask"))
        assert len(loaded) == document["counts"]["training"]

    def test_files_agree_with_entries(self, sample):
        for entry in entries_of(sample):
            image, lungs, finding = (read(sample.parent / entry[k]) for k in ("image", "lung_mask", "finding_mask"))
            assert image.shape == lungs.shape == finding.shape == (96, 96)
            assert image.std() > 20
            assert set(np.unique(lungs)) == {0, 255}
            assert 0.1 < (lungs > 0).mean() < 0.5
            kinds = entry["box_labels"]
            assert entry["labels"] == [int(k in kinds) for k in range(len(CLASSES))]
            assert len(entry["boxes"]) == len(kinds) == len(entry["box_phrases"])
            boxed = np.zeros_like(finding)
            for box in entry["boxes"]:
                x0, y0, x1, y1 = (int(value) for value in box)
                assert [x0, y0, x1, y1] == box
                assert 0 <= x0 < x1 <= 96
                assert 0 <= y0 < y1 <= 96
                boxed[y0:y1, x0:x1] = 255
                assert finding[y0:y1, x0:x1].any()
            assert not finding[boxed == 0].any()

    def test_same_for_any_number_of_workers(self, tmp_path):
        one = make_sample(tmp_path / "one", size=9, image_size=64, num_workers=1, progress=False)
        many = make_sample(tmp_path / "many", size=9, image_size=64, num_workers=4, progress=False)
        other = make_sample(tmp_path / "other", size=9, image_size=64, seed=1, progress=False)
        assert files_of(one.parent) == files_of(many.parent)
        assert read_datalist(one)["hash"] != read_datalist(other)["hash"]

    def test_image_size_keeps_the_text(self, sample, tmp_path):
        small = make_sample(tmp_path, size=SIZE, image_size=64, progress=False)
        for a, b in zip(entries_of(sample), entries_of(small), strict=True):
            assert (a["id"], a["report"], a["box_phrases"]) == (b["id"], b["report"], b["box_phrases"])

    def test_reuse_repair_replace(self, tmp_path, caplog):
        caplog.set_level("INFO")
        make = {"image_size": 64, "progress": False}
        path = make_sample(tmp_path, size=10, **make)
        before, stamp = files_of(tmp_path), path.stat().st_mtime_ns
        caplog.clear()
        assert make_sample(tmp_path, size=10, **make) == path
        assert path.stat().st_mtime_ns == stamp
        assert [r for r in caplog.messages if "reused" in r]
        (tmp_path / "images" / "sample_00003.png").unlink()
        make_sample(tmp_path, size=10, **make)
        assert files_of(tmp_path) == before
        make_sample(tmp_path, size=8, **make)
        assert len(list((tmp_path / "images").iterdir())) == 8
        assert len(entries_of(path)) == 8
        assert not list(tmp_path.rglob("*.tmp"))

    def test_foreign_datalist_stays(self, tmp_path):
        path = tmp_path / "datalist.json"
        path.write_text(json.dumps({"source": "mine", "training": []}))
        with pytest.raises(DataError, match="folder of its own"):
            make_sample(tmp_path, size=8, progress=False)
        assert json.loads(path.read_text())["source"] == "mine"

    @pytest.mark.parametrize("argument", [{"size": 7}, {"image_size": 32}, {"seed": -1}, {"num_workers": 0}])
    def test_ill_arg(self, tmp_path, argument):
        with pytest.raises(DataError, match=next(iter(argument))):
            make_sample(tmp_path, **argument)
        assert not list(tmp_path.iterdir())

    def test_sheet(self, sample, tmp_path):
        file = draw_sheet(sample.parent, tmp_path / "sheet.png")
        with Image.open(file) as sheet:
            assert sheet.size == (960, 744)
            assert len(np.unique(np.asarray(sheet.convert("L")))) > 50
        assert file.stat().st_size < 700_000


class TestDrawing:
    @pytest.mark.parametrize("size", [64, 128, 512])
    def test_every_finding_is_seen(self, size):
        rng = np.random.default_rng(5)
        for seed in range(40 if size < 512 else 4):
            findings = draw_findings(rng)
            image, lungs, masks = draw_study(draw_anatomy(rng), findings, size, np.random.default_rng(seed))
            assert image.dtype == np.uint8
            assert lungs.dtype == bool
            assert len(masks) == len(findings)
            assert all(mask.shape == (size, size) and mask.any() for mask in masks)

    @pytest.mark.parametrize("side", ["right", "left"])
    @pytest.mark.parametrize("kind", ["opacity", "effusion", "pneumothorax", "nodule"])
    def test_side(self, kind, side):
        finding = Finding(kind, side, "mid", "moderate", "hazy", 20)
        mask = draw(finding)[2][0]
        x = np.nonzero(mask)[1].mean() / 128
        assert x < 0.45 if side == "right" else x > 0.55  # the patient's right is on the image's left

    def test_size_and_brightness(self):
        def contrast(image, mask):  # with the other side, as every exposure differs
            return float(image[mask].mean()) - float(image[mask[:, ::-1]].mean())

        normal = draw()[0]
        for kind, sign in (("effusion", 1), ("pneumothorax", -1), ("opacity", 1), ("nodule", 1)):
            areas = []
            for size, millimeters in (("small", 10), ("moderate", 20), ("large", 30)):
                image, _, (mask,) = draw(Finding(kind, "right", "mid", size, "confluent", millimeters))
                areas.append(mask.sum())
                assert sign * (contrast(image, mask) - contrast(normal, mask)) > 5
            assert areas == sorted(areas)
            assert areas[0] < areas[-1]

    def test_zones_and_heart(self):
        heights = [np.nonzero(draw(Finding("nodule", "left", z, "large", "", 30))[2][0])[0].mean() for z in
                   ("upper", "mid", "lower")]  # fmt: skip
        assert heights == sorted(heights)
        widths = [np.ptp(np.nonzero(draw(Finding("cardiomegaly", size=s))[2][0])[1]) for s in
                  ("small", "moderate", "large")]  # fmt: skip
        assert widths == sorted(set(widths))
        assert draw(Finding("cardiomegaly", size="large"))[1].sum() < draw()[1].sum()  # the heart is no lung


class TestReport:
    def test_describes_what_is_there(self):
        rng = np.random.default_rng(0)
        known, texts = set(vocabulary()), []
        for _ in range(300):
            anatomy, findings = draw_anatomy(rng), draw_findings(rng)
            text = write_report(anatomy, findings, False, rng)
            texts.append(text)
            words = set(text.lower().translate(str.maketrans(string.punctuation, " " * 32)).split())
            assert words - {"1", "2"} <= known
            assert 8 < len(text.split()) < 112
            for finding in findings:
                assert not finding.side or finding.side in words
                assert not finding.millimeters or str(finding.millimeters) in words
                assert f"No {finding.kind}" not in text
            assert findings or not words & {"mm", "moderate", "extensive", "pacemaker"}
        assert len(set(texts)) > 280

    def test_no_unfilled_slot(self):
        rng = np.random.default_rng(0)
        texts = [write_report(draw_anatomy(rng), draw_findings(rng), True, rng) for _ in range(300)]
        assert not any(mark in text for text in texts for mark in ("{", "}", "  ", ",.", " ,"))


@pytest.mark.skipif(not has_transformers, reason="needs transformers")
class TestReportEncoder:
    def test_tokenizer_and_config(self, sample):
        folder = str(sample.parent / "report_encoder")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        assert tokenizer.is_fast
        assert config.model_type == "bert"
        assert (config.hidden_size, config.num_hidden_layers, config.max_position_embeddings) == (128, 2, 128)
        assert config.vocab_size == len(tokenizer)
        assert config.pad_token_id == tokenizer.pad_token_id
        assert tokenizer.tokenize("Small LEFT effusion") == ["small", "left", "effusion"]
        assert tokenizer.tokenize("Zx9") == ["z", "##x", "##9"]
        assert tokenizer.unk_token not in tokenizer.tokenize(string.ascii_letters + " " + string.digits)
        for entry in entries_of(sample):
            assert not any(piece.startswith("##") or piece == "[UNK]" for piece in tokenizer.tokenize(entry["report"]))
        ids = tokenizer("small effusion")["input_ids"]
        assert tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "small", "effusion", "[SEP]"]


def test_samples_of_several_sizes_stand_side_by_side(tmp_path):
    base, kept = tmp_path / "data" / "sample", {}
    for size, pixels in ((8, 64), (9, 64), (8, 70)):
        folder = Path(resolve_dataset(None, base, size, pixels))
        kept[folder] = files_of(folder)
        assert read_datalist(folder / "datalist.json")["settings"]["size"] == size
    assert base in kept
    assert len(kept) == 3
    for size, pixels in ((8, 70), (8, 64), (9, 64)):  # each is found again
        assert Path(resolve_dataset(None, base, size, pixels)) in kept
    assert {folder: files_of(folder) for folder in kept} == kept
