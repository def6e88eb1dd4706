# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import importlib
import io
import os
import runpy
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, MetaTensor, get_track_meta
from monai.transforms import Compose, LoadImaged, RandFlipd, ScaleIntensityRanged
from PIL import Image

from monai_mgca.data import check_batch_size, make_dataset
from monai_mgca.data.dataset import hash_item, hash_transform
from monai_mgca.transforms import LoadMaskd, TokenizeReportd
from monai_mgca.utils import DataError, hashing
from monai_mgca.utils.errors import StorageError

ROOT = Path(__file__).resolve().parents[2]


def make_images(folder, number=4):
    rng = np.random.default_rng(0)
    for i in range(number):
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(folder / f"{i}.png")
    return [{"image": str(folder / f"{i}.png"), "report": f"report {i}"} for i in range(number)]


def make_transform(maximum=255.0):
    return Compose(
        [
            LoadImaged("image", ensure_channel_first=True),
            ScaleIntensityRanged("image", 0, maximum, 0, 1),
            RandFlipd("image", prob=0.5),
        ]
    )


@pytest.mark.parametrize("cache", ["none", "memory", "disk"])
def test_same_values_from_every_cache(tmp_path, cache):
    data = make_images(tmp_path)
    transform = Compose(make_transform().transforms[:2])
    dataset = make_dataset(data, transform, cache, cache_dir=tmp_path / "cache", progress=False)
    for _ in range(2):
        for entry, item in zip(data, dataset, strict=True):
            expected = np.asarray(Image.open(entry["image"]), dtype=np.float32).T[None] / 255
            np.testing.assert_allclose(np.asarray(item["image"]), expected, rtol=1e-6)
            assert item["report"] == entry["report"]


def test_a_batch_of_new_and_cached_items_collates(tmp_path):
    data = make_images(tmp_path)
    dataset = make_dataset(data, make_transform(), "disk", cache_dir=tmp_path / "cache")
    dataset[1]  # on the disk; 0 is not
    batch = next(iter(DataLoader(dataset, batch_size=2)))
    assert batch["image"].shape == (2, 1, 8, 8)
    deterministic = make_dataset(data, Compose(make_transform().transforms[:2]), "disk", cache_dir=tmp_path / "other")
    for _ in range(2):
        assert not isinstance(deterministic[0]["image"], MetaTensor)
        assert not isinstance(dataset[0]["image"], MetaTensor)  # behind a random transform too
    assert get_track_meta()


def test_memory_without_meta_data(tmp_path):
    data = make_images(tmp_path)
    kept, plain = (
        make_dataset(data, make_transform(), "memory", progress=False, track_meta=keep) for keep in (True, False)
    )
    for dataset in (kept, plain):
        dataset.transform.set_random_state(0)
    for _ in range(2):
        for first, second in zip(kept, plain, strict=True):
            assert isinstance(first["image"], MetaTensor)
            assert type(second["image"]) is torch.Tensor
            assert torch.equal(first["image"].as_tensor(), second["image"])
            assert first["report"] == second["report"]
    assert get_track_meta()


def test_disk_cache_is_never_stale(tmp_path):
    data, cache = make_images(tmp_path), tmp_path / "cache"
    first = make_dataset(data, make_transform(), "disk", cache)[0]["image"]
    make_dataset(data, make_transform(), "disk", cache)[0]
    assert len(os.listdir(cache)) == 1  # found again
    second = make_dataset(data, make_transform(maximum=127.5), "disk", cache)[0]["image"]
    assert torch.allclose(second.sum(), 2 * first.sum())  # another argument, another item
    Image.fromarray(np.full((8, 8), 51, dtype=np.uint8)).save(data[0]["image"])
    third = make_dataset(data, make_transform(), "disk", cache)[0]["image"]
    assert torch.allclose(torch.as_tensor(third), torch.tensor(0.2))  # another file, another item


def touch(path, content):
    """Write a file whose size or time differs from the last one's, however coarse the clock is."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_bytes(content)
    os.utime(path, ns=(before + 1_000_000, before + 1_000_000))


class TestWhatAnItemHangsOn:
    @pytest.mark.parametrize(
        "item",
        [
            lambda path: {"label": str(path)},
            lambda path: {"label": ["none.png", str(path)]},
            lambda path: {"label": {"lung": str(path)}},
            lambda path: {"label": [{"lung": (str(path), 1)}]},
            lambda path: {"label": path},
            lambda path: {"label": str(path.parent)},
            lambda path: {"label": [path.parent]},
            lambda path: [str(path)],
        ],
    )
    def test_a_file_that_changed(self, tmp_path, item):
        path = tmp_path / "mask.png"
        touch(path, b"1")
        before = hash_item(item(path))
        (tmp_path / ".DS_Store").write_bytes(b"0")
        assert hash_item(item(path)) == before
        touch(path, b"2")
        changed = hash_item(item(path))
        touch(path, b"22")
        assert len({before, changed, hash_item(item(path))}) == 3
        if "parent" in item.__code__.co_names:
            path.rename(tmp_path / "other.png")
            assert hash_item(item(path)) not in (before, changed)

    def test_relative_paths(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "a").mkdir()
        for name in ("a/mask.png", "mask.png"):
            touch(tmp_path / name, b"1")
            before = hash_item({"label": [name]})
            touch(tmp_path / name, b"2")
            assert hash_item({"label": [name]}) != before
        (tmp_path / "label").mkdir()  # a word is not the folder that has its name
        assert hash_item({"label": [name], "finding": "label"}) == hash_item({"label": [name], "finding": "label"})

    @pytest.mark.parametrize("report", ["and/or " * 2000, "a/b\0c", "/" * 300, "1/2\n/3", "\udc80/"])
    def test_texts_that_are_no_paths(self, report):
        assert hash_item({"report": report}) == hash_item({"report": report}) != hash_item({"report": report + "."})

    def test_labels_boxes_and_order(self):
        item = {"image": "/none.png", "boxes": [[1, 2, 3, 4]], "label": [0, 1]}
        others = [{**item, "boxes": [[1, 2, 3, 5]]}, {**item, "label": [1, 0]}, {**item, "image": "/none2.png"}]
        assert len({hash_item(one) for one in [item, *others]}) == 4
        assert hash_item(dict(reversed(item.items()))) == hash_item(item)


class TestWhatTransformsHangOn:
    @pytest.mark.parametrize("relative", [False, True])
    def test_another_tokenizer_in_the_folder(self, tmp_path, monkeypatch, relative):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "encoder").mkdir()
        touch(tmp_path / "encoder" / "vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nno\neffusion\n")
        folder = "encoder" if relative else str(tmp_path / "encoder")
        data = [{"image": "none.png", "report": "no effusion"}]

        def tokens():
            transform = Compose([TokenizeReportd("report", folder, max_length=4)])
            return make_dataset(data, transform, "disk", tmp_path / "cache")[0]["input_ids"].tolist()

        assert tokens() == [2, 4, 5, 3]
        assert tokens() == [2, 4, 5, 3]
        assert len(list((tmp_path / "cache").iterdir())) == 1
        touch(tmp_path / "encoder" / "vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\neffusion\nno\n")
        assert tokens() == [2, 5, 4, 3]

    def test_a_mask_of_a_list(self, tmp_path):
        masks = [str(tmp_path / f"{name}.png") for name in ("lung", "heart")]

        def areas(*rows):
            for path, count in zip(masks, rows, strict=True):
                buffer = io.BytesIO()
                Image.fromarray(np.repeat(np.uint8([255, 0]), [count, 8 - count])[:, None]).save(buffer, "PNG")
                touch(Path(path), buffer.getvalue())
            dataset = make_dataset([{"label": masks}], LoadMaskd("label", num_classes=2), "disk", tmp_path / "cache")
            return dataset[0]["label"].sum((1, 2)).tolist()

        assert areas(2, 4) == [2, 4]
        assert areas(6, 1) == [6, 1]

    def test_options_and_sources(self, tmp_path, monkeypatch):
        assert hash_transform(LoadMaskd("label")) == hash_transform(LoadMaskd("label"))
        assert hash_transform(LoadMaskd("label")) != hash_transform(LoadMaskd("label", num_classes=2))
        monkeypatch.syspath_prepend(str(tmp_path))
        hashes = []
        for factor in (2, 3):
            (tmp_path / "own_transform.py").write_text(f"class Own:\n    def __call__(self, x): return {factor} * x\n")
            sys.modules.pop("own_transform", None)
            importlib.invalidate_caches()
            hashing._source_of.cache_clear()
            hashes.append(hash_transform(importlib.import_module("own_transform").Own()))
        sys.modules.pop("own_transform", None)
        assert hashes[0] != hashes[1]

    def test_sources_of_this_package(self, monkeypatch):
        before = hash_transform(LoadMaskd("label"))
        hashing._source_of.cache_clear()
        read = Path.read_bytes
        monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path.name == "foreground.py"))
        assert hash_transform(LoadMaskd("label")) != before
        hashing._source_of.cache_clear()


HASHES = """
import torch
from monai_mgca.data.dataset import hash_transform
from monai_mgca.networks import ReportEncoder
from monai_mgca.transforms import EncodeReportd
sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
for seed in (1, 2):
    torch.manual_seed(seed)
    encoder = ReportEncoder({**sizes, "intermediate_size": 8}, freeze=True)
    print(hash_transform([EncodeReportd(encoder)]).decode())
"""


def test_transforms_with_weights_have_one_hash_in_every_process(forks, capsys, tmp_path):
    (tmp_path / "hashes.py").write_text(HASHES)
    runpy.run_path(str(tmp_path / "hashes.py"))
    here = capsys.readouterr().out
    # the order of a set, of which a language model has some, is another one in the fork server
    done = forks.run("-c", HASHES, cwd=ROOT)
    assert done.stdout == here, done.stderr
    first, second = here.split()
    assert first != second, "other weights"


def test_disk_cache_loads_tensors_only(tmp_path):
    class Payload:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "harm"),))

    data = make_images(tmp_path, 1)
    dataset = make_dataset(data, make_transform(), "disk", tmp_path / "cache")
    dataset[0]
    file = next((tmp_path / "cache").iterdir())
    torch.save(Payload(), file)
    with pytest.warns(UserWarning, match="damaged"):
        assert dataset[0]["image"].shape == (1, 8, 8)  # made again
    assert not (tmp_path / "harm").exists()


@pytest.fixture
def one_cached(tmp_path):
    """A dataset of one image, whose item is on the disk, the item and the file."""
    data = make_images(tmp_path, 1)
    dataset = make_dataset(data, Compose(make_transform().transforms[:2]), "disk", tmp_path / "cache")
    item = dataset[0]
    (file,) = (tmp_path / "cache").iterdir()
    return dataset, item, file


def test_a_cache_file_of_every_length_is_made_again(one_cached):
    dataset, item, file = one_cached
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError):  # so that it is made again  # noqa: PT011
            dataset._read(file, file.stem)
    for length in range(0, len(whole), 97):
        file.write_bytes(whole[:length])
        with pytest.warns(UserWarning, match=rf"{file.name} is damaged \(.+\): it is recreated"):
            assert torch.equal(dataset[0]["image"], item["image"])
        assert file.stat().st_size == len(whole)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(dataset[0]["image"], item["image"])


def other_numbers(file):
    """Zeros where the image is, which torch would take for its values."""
    content = bytearray(file.read_bytes())
    begin = content.index(torch.load(file, weights_only=True)["item"]["image"].numpy().tobytes())
    content[begin : begin + 64] = bytes(64)
    file.write_bytes(content)


DAMAGES = {
    "zeros in the middle": other_numbers,
    "a text": lambda file: file.write_text("no archive"),
    "another archive": lambda file: np.savez(file.open("wb"), image=np.zeros(3)),
    "other tensors": lambda file: torch.save({"weight": torch.zeros(2)}, file),
    "another item": lambda file: torch.save({"name": "0" * 128, "item": {"image": torch.zeros(1, 8, 8)}}, file),
    "a link to nothing": lambda file: (file.unlink(), file.symlink_to("nowhere.pt")),
    "an older format": lambda file: torch.save(torch.zeros(2), file, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_cache_file_is_made_again(one_cached, damage):
    dataset, item, file = one_cached
    damage(file)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        assert torch.equal(dataset[0]["image"], item["image"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(dataset[0]["image"], item["image"])
    assert not file.is_symlink()


def test_a_folder_in_the_place_of_a_cache_file_is_named(one_cached):
    dataset, _, file = one_cached
    file.unlink()
    file.mkdir()
    with pytest.raises(StorageError, match=f"cannot write .*{file.name}: a folder has its name"):
        dataset[0]
    assert os.listdir(file.parent) == [file.name]


READ = """
import sys
from monai_mgca.data.dataset import CachedOnDiskDataset
from monai_mgca.utils.errors import StorageError
try:
    CachedOnDiskDataset._read(__import__("pathlib").Path(sys.argv[1]), "")
except PermissionError:
    dataset = CachedOnDiskDataset([{}], lambda item: item, cache_dir=sys.argv[2], hash_func=lambda item: b"0")
    try:
        dataset[0]
    except StorageError as error:
        print(error)
"""


def test_a_forbidden_cache_file_is_named(tmp_path, forks, heeding_permissions):
    (tmp_path / "0.pt").write_bytes(b"")
    (tmp_path / "0.pt").chmod(0)
    done = forks.run("-c", READ, str(tmp_path / "0.pt"), str(tmp_path), **heeding_permissions)
    assert f"the cache file {tmp_path / '0.pt'} cannot be read (Permission denied)" in done.stdout, done.stderr


def test_several_processes_make_damaged_files_again(tmp_path):
    data = make_images(tmp_path, 12)
    dataset = make_dataset(data, Compose(make_transform().transforms[:2]), "disk", tmp_path / "cache")
    expected = [item["image"] for item in dataset]
    for i, file in enumerate(sorted((tmp_path / "cache").iterdir())):
        file.write_bytes(file.read_bytes()[: 100 * i])
    # two workers take each item
    loader = DataLoader(dataset, batch_size=1, sampler=[i for i in range(12) for _ in range(2)], num_workers=2)
    for i, batch in enumerate(loader):
        assert torch.equal(batch["image"][0], expected[i // 2])
    assert all(torch.load(file, weights_only=True)["item"] for file in (tmp_path / "cache").iterdir())
    assert len(os.listdir(tmp_path / "cache")) == 12


def test_no_room_for_the_disk_cache(tmp_path, small_files):
    Image.fromarray(np.zeros((300, 300), dtype=np.uint8)).save(tmp_path / "large.png")
    data = [{"image": str(tmp_path / "large.png")}]
    dataset = make_dataset(data, make_transform(), "disk", tmp_path / "cache")
    with small_files(), pytest.raises(StorageError, match=r"cannot write .*/cache/.*\.pt: it would be larger"):
        dataset[0]
    assert list((tmp_path / "cache").iterdir()) == []


def test_arguments(tmp_path):
    data = make_images(tmp_path, 1)
    assert isinstance(make_dataset(data, make_transform(), "memory", progress=False), CacheDataset)
    with pytest.raises(DataError, match="cache_dir"):
        make_dataset(data, make_transform(), "disk")
    with pytest.raises(ValueError, match="did you mean 'memory'"):
        make_dataset(data, make_transform(), "memry")


def test_check_batch_size():
    check_batch_size(10, 10)
    with pytest.raises(DataError, match="Set batch_size to at most 10"):
        check_batch_size(10, 11)
