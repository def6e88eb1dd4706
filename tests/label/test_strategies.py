# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""What is annotated next: the embeddings kept beside the studies, and the strategies that choose by them."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from fastapi import HTTPException
from filelock import FileLock
from PIL import Image

from monai_mgca.apps import load_pretrained
from monai_mgca.label.active import active_learning as strategies
from monai_mgca.label.active import row_store
from monai_mgca.label.active.active_learning import Disagreement, Diversity, TextQuery, UncertaintyDiversity
from monai_mgca.label.active.embedding_scoring import EmbeddingScoring
from monai_mgca.label.active.row_store import refresh_rows
from monai_mgca.label.active.study_embeddings import StudyEmbeddings
from monai_mgca.label.active.uncertainty import entropies_of, entropy
from monai_mgca.label.infers.task_infers import ClassificationInfer, SegmentationInfer
from monai_mgca.label.label_settings import LabelSettings
from monai_mgca.label.store.radiograph_datastore import RadiographDatastore
from monai_mgca.utils import DataError

CANARY = "Canarywordium"
COUNT = 8


@pytest.fixture
def settings(label_bundle, tmp_path):
    return LabelSettings(tmp_path / "app", label_bundle)


@pytest.fixture
def store(tmp_path):
    """A datastore of images of growing lightness; all but the last have a report."""
    folder = tmp_path / "studies"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(COUNT):
        pixels = generator.integers(0, 30 * (i + 1), (60 + i, 50), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"s{i}.png")
    for i in range(COUNT - 1):
        (folder / f"s{i}.txt").write_text(f"{CANARY} number {i}. Small left effusion. " + "Normal heart. " * i)
    return RadiographDatastore(folder)


@pytest.fixture
def embeddings(settings):
    return StudyEmbeddings(settings)


def label(store, *names):
    for name in names:
        store.save_label(name, store.get_image_uri(name), "final", {})


def lend(store, name, minutes_ago=0):
    store.update_image_info(name, {"strategy": {"any": {"ts": int(time.time() - 60 * minutes_ago), "client_id": "me"}}})


def test_embeddings_are_the_models(store, embeddings, settings):
    model = load_pretrained(settings.pretrained, "cpu")
    studies = embeddings(store)
    assert studies.ids == [f"s{i}" for i in range(COUNT)]
    wanted = model.embed_images([store.get_image_uri(name) for name in studies.ids])
    torch.testing.assert_close(studies.images, wanted)
    reports = [(store.work_dir.parent / f"s{i}.txt").read_text() for i in range(COUNT - 1)]
    agreement = (wanted[: COUNT - 1] * model.embed_reports(reports)).sum(1)
    assert [studies.agreement[f"s{i}"] for i in range(COUNT - 1)] == pytest.approx(agreement.tolist(), abs=1e-4)
    assert "s7" not in studies.agreement


def test_only_what_changed_is_computed_again(store, embeddings, settings, label_bundle, tmp_path):
    folder = store.work_dir.parent
    assert embeddings(store).computed == COUNT + COUNT - 1
    assert embeddings(store).computed == 0
    assert StudyEmbeddings(settings)(store).computed == 0, "another process"
    shutil.copy(folder / "s5.png", folder / "s0.png")
    (folder / "s1.txt").write_text("Large right effusion.")
    (folder / "s2.png").unlink()
    store.refresh()
    changed = embeddings(store)
    assert (changed.computed, changed.removed) == (2, 1)
    torch.testing.assert_close(changed.images[0], changed.images[changed.ids.index("s5")])
    assert "s2" not in changed.ids
    assert "s2" not in changed.agreement
    moved = replace(settings, bundle=shutil.copytree(label_bundle, tmp_path / "mgca"))
    state = torch.load(moved.pretrained, weights_only=True)
    torch.save({key: value.flip(0) if value.ndim else value for key, value in state.items()}, moved.pretrained)
    assert StudyEmbeddings(moved)(store).computed == 2 * (COUNT - 1) - 1, "another pretraining"


def test_a_broken_study_is_reported_and_the_others_go_on(store, embeddings, caplog):
    (store.work_dir.parent / "s3.png").write_bytes(b"no image")
    answer = EmbeddingScoring(embeddings)({}, store)
    assert answer["images"] == COUNT - 1
    assert list(answer["unreadable"]) == ["s3"]
    assert "cannot read the radiograph" in answer["unreadable"]["s3"]
    assert "s3" in caplog.text
    assert Diversity(embeddings)({}, store)["id"] != "s3"


def test_a_file_that_is_gone_is_reported_and_the_others_go_on(store, embeddings):
    embeddings(store)
    (store.work_dir.parent / "s3.png").unlink()  # the datastore has not seen it
    answer = EmbeddingScoring(embeddings)({}, store)
    assert answer["images"] == COUNT - 1
    assert answer["unreadable"] == {"s3": "The file of 's3' cannot be read: No such file or directory."}


def test_what_is_known_stays_while_a_pacs_does_not_answer(store, embeddings, monkeypatch):
    def fail(name):
        raise HTTPException(502, "The DICOMweb server does not answer.")

    embeddings(store)
    with monkeypatch.context() as context:
        context.setattr(store, "get_image_uri", fail)
        with pytest.raises(HTTPException, match="502"):
            embeddings(store)
    assert embeddings(store).computed == 0


def test_scoring_reports_how_far_the_labels_reach(store, embeddings):
    none = EmbeddingScoring(embeddings)({}, store)
    assert none["farthest"] is none["mean"] is None
    assert none["computed"] == 2 * COUNT - 1
    label(store, "s0", "s4")
    images = embeddings(store).images
    near = [1 - max(float(images[i] @ images[0]), float(images[i] @ images[4])) for i in (1, 2, 3, 5, 6, 7)]
    some = EmbeddingScoring(embeddings)({}, store)
    assert some["farthest"] == pytest.approx(max(near), abs=1e-4)
    assert some["mean"] == pytest.approx(np.mean(near), abs=1e-4)
    assert some["computed"] == 0


def test_diversity_begins_in_the_middle_and_goes_far(store, embeddings):
    images = embeddings(store).images
    first = Diversity(embeddings)({}, store)
    assert first["id"] == f"s{int((images @ images.sum(0)).argmax())}"
    label(store, "s0", "s4")
    rest = [i for i in range(COUNT) if i not in (0, 4)]
    distance = {i: float(1 - (images[i] @ images[[0, 4]].T).max()) for i in rest}
    wanted = max(distance, key=distance.get)
    assert Diversity(embeddings)({}, store) == {"id": f"s{wanted}", "novelty": round(distance[wanted], 4)}


def test_text_finds_the_nearest_and_then_the_next(store, embeddings, settings):
    text = load_pretrained(settings.pretrained, "cpu").embed_texts(["left pleural effusion"])[0]
    order = (embeddings(store).images @ text).argsort(descending=True).tolist()
    ask = TextQuery(embeddings)
    for row in order[:3]:
        answer = ask({"text": "left pleural effusion"}, store)
        assert answer["id"] == f"s{row}"
        lend(store, answer["id"])
    assert ask({"text": "left pleural effusion", "reserve_minutes": 0}, store)["id"] == f"s{order[0]}"
    label(store, f"s{order[3]}")
    assert ask({"text": "left pleural effusion"}, store)["id"] == f"s{order[4]}"


@pytest.mark.parametrize(
    ("text", "message"), [("", "no word"), ("qqq zzz", "knows no word"), ("heart " * 99, "longer")]
)
def test_a_text_that_cannot_be_read_is_refused(store, embeddings, text, message):
    with pytest.raises(DataError, match=message):
        TextQuery(embeddings)({"text": text}, store)


def test_disagreement_gives_the_report_that_fits_least(store, embeddings):
    agreement = embeddings(store).agreement
    answer = Disagreement(embeddings)({}, store)
    assert answer == {"id": min(agreement, key=agreement.get), "similarity": round(min(agreement.values()), 4)}
    label(store, *agreement)
    assert Disagreement(embeddings)({}, store) is None  # what is left has no report


def test_disagreement_needs_reports(store, embeddings, settings, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(HTTPException, match=r"put <image id>\.txt into .*empty"):
        Disagreement(StudyEmbeddings(replace(settings, reports=tmp_path / "empty")))({}, store)


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_uncertainty_is_the_networks_entropy(store, embeddings, settings, task):
    infers = {"classification": ClassificationInfer(settings), "segmentation": SegmentationInfer(settings)}
    wanted = {f"s{i}": entropy(infers[task].probabilities(store.get_image_uri(f"s{i}"))) for i in range(COUNT)}
    ask = UncertaintyDiversity(embeddings, infers)
    answer = ask({"model": task, "weight": 1}, store)
    assert wanted[answer["id"]] == pytest.approx(max(wanted.values()), abs=1e-6)
    assert answer["uncertainty"] == pytest.approx(max(wanted.values()), abs=1e-4)
    label(store, "s0")
    far = ask({"model": task, "weight": 0}, store)
    assert far["id"] == Diversity(embeddings)({}, store)["id"]
    assert (store.work_dir / f"uncertainty_{task}.npz").is_file()


def test_entropies_that_take_long_are_computed_over_several_requests(store, embeddings, settings, monkeypatch):
    infer = ClassificationInfer(settings)
    ask = UncertaintyDiversity(embeddings, {"classification": infer})
    monkeypatch.setattr(strategies, "SECONDS", -1)  # one image a request
    label(store, "s0")
    farthest = Diversity(embeddings)({}, store)["id"]
    first = ask({}, store)
    assert first["id"] == farthest
    assert first["compared"] == 1
    monkeypatch.setattr(strategies, "SECONDS", 60)
    assert ask({}, store)["compared"] == COUNT - 1
    path = store.work_dir / "uncertainty_classification.npz"
    written = path.stat().st_mtime_ns
    monkeypatch.setattr(infer, "probabilities", None)  # all are known
    names = [f"s{i}" for i in range(1, COUNT)]
    assert list(entropies_of(infer, names, store)) == names
    assert path.stat().st_mtime_ns == written


def test_all_that_is_left_was_handed_out(store, embeddings, settings):
    label(store, "s0")
    ask = UncertaintyDiversity(embeddings, {"classification": ClassificationInfer(settings)})
    before = ask({"weight": 0}, store)
    assert before["novelty"] > 0
    for i in range(1, COUNT):
        lend(store, f"s{i}")
    assert ask({"weight": 0}, store) == before


def test_entropy_by_hand():
    assert entropy(torch.tensor([0.5, 0.5])) == pytest.approx(1)
    assert entropy(torch.tensor([0.0, 1.0])) == pytest.approx(0, abs=1e-5)
    assert entropy(torch.tensor([0.25])) == pytest.approx(0.25 * 2 + 0.75 * np.log2(4 / 3))


def test_wrong_values_are_refused(store, embeddings, settings, tmp_path):
    infers = {"classification": ClassificationInfer(settings)}
    for request, message in (
        ({"weight": 2}, "weight is a number from 0 to 1"),
        ({"weight": "much"}, "weight"),
        ({"model": "detection"}, "not 'detection'"),
        ({"reserve_minutes": -1}, "reserve_minutes"),
    ):
        with pytest.raises(HTTPException, match=message):
            UncertaintyDiversity(embeddings, infers)(request, store)
    bare = replace(settings, bundle=tmp_path)
    with pytest.raises(HTTPException, match="no weights yet"):
        UncertaintyDiversity(embeddings, {"classification": ClassificationInfer(bare)})({}, store)
    with pytest.raises(HTTPException, match="no weights yet of classification: train first"):
        UncertaintyDiversity(embeddings, {"classification": ClassificationInfer(bare)})(
            {"model": "classification"}, store
        )
    with pytest.raises(HTTPException, match="pretrain first"):
        Diversity(StudyEmbeddings(bare))({}, store)


def test_images_lent_long_ago_or_all_lent_are_given_again(store, embeddings):
    ask = Diversity(embeddings)
    first = ask({}, store)["id"]
    lend(store, first, minutes_ago=11)
    assert ask({}, store)["id"] == first
    for i in range(COUNT):
        lend(store, f"s{i}")
    assert ask({}, store) is not None
    label(store, *(f"s{i}" for i in range(COUNT)))
    assert ask({}, store) is None


def test_nothing_of_a_report_is_logged_or_kept_as_text(store, embeddings, caplog):
    with caplog.at_level(logging.DEBUG):
        EmbeddingScoring(embeddings)({}, store)
        Disagreement(embeddings)({}, store)
    kept = [path.read_bytes() for path in store.work_dir.iterdir()] + [json.dumps(store.json()).encode()]
    assert CANARY not in caplog.text
    assert not any(CANARY.encode() in content for content in kept)


def test_rows_are_written_on_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(row_store, "CHUNK", 2)
    states = {name: "1" for name in "abcde"}

    def compute(names):
        if "e" in names:
            raise OSError(28, "No space left on device")
        return {name: np.full(3, ord(name), np.float32) for name in names}

    with pytest.raises(OSError, match="No space left"):
        refresh_rows(tmp_path / "rows.npz", "f", states, compute)
    rows = refresh_rows(
        tmp_path / "rows.npz", "f", states, lambda names: {name: np.zeros(3, np.float32) for name in names}
    )
    assert rows.ids == list("abcde")
    assert rows.computed == 1
    assert rows.values[:, 0].tolist() == [97, 98, 99, 100, 0]
    assert refresh_rows(tmp_path / "rows.npz", "f", {}, compute).removed == 5
    assert not (tmp_path / "rows.npz").exists()


def test_a_damaged_file_is_made_again(tmp_path):
    def compute(names):
        return {name: np.ones(2, np.float32) for name in names}

    refresh_rows(tmp_path / "rows.npz", "f", {"a": "1"}, compute)
    os.truncate(tmp_path / "rows.npz", 60)
    assert refresh_rows(tmp_path / "rows.npz", "f", {"a": "1"}, compute).computed == 1


def test_another_process_that_computes_is_not_waited_for_long(tmp_path, monkeypatch):
    monkeypatch.setattr(row_store, "PATIENCE", 0.1)
    lock = tmp_path.with_name(f"{tmp_path.name}-rows.npz.lock")
    with FileLock(lock), pytest.raises(HTTPException, match="503"):
        refresh_rows(tmp_path / "rows.npz", "f", {}, lambda names: {})
