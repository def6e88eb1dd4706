# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_mgca.apps import EmbeddingIndex
from monai_mgca.io.embedding_file import fingerprint_of, read_embeddings, write_embeddings
from monai_mgca.utils import DataError


def unit(count, dim=16, seed=0):
    vectors = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(vectors, dim=-1)


def tied(count, dim=8, seed=0):
    """Vectors of small whole numbers: sums are exact, and many scores are the same."""
    return torch.randint(-1, 2, (count, dim), generator=torch.Generator().manual_seed(seed)).float()


def slow_search(queries, keys, k):
    """Every pair by itself, then sorted by the score and the row."""
    found = []
    for query in queries.double().tolist():
        scores = [sum(a * b for a, b in zip(query, key, strict=True)) for key in keys.double().tolist()]
        found.append(sorted(range(len(scores)), key=lambda row: (-scores[row], row))[:k])
    return torch.tensor(found)


class TestExact:
    @pytest.mark.parametrize("chunk", [1, 7, 50, 99, 100, 1000])
    @pytest.mark.parametrize("k", [1, 10, 100, 250])
    def test_as_a_slow_sort(self, chunk, k):
        queries, keys = unit(5, seed=1), unit(100)
        scores, rows = EmbeddingIndex(keys, chunk=chunk).search(queries, k)
        assert torch.equal(rows, slow_search(queries, keys, k))
        torch.testing.assert_close(scores, (queries @ keys.T).gather(1, rows))

    @pytest.mark.parametrize("chunk", [1, 7, 60, 1000])
    @pytest.mark.parametrize("k", [1, 3, 20, 60])
    def test_the_same_scores_stand_in_the_order_of_the_keys(self, chunk, k):
        queries, keys = tied(9, seed=1), tied(60)
        assert len((queries @ keys.T).unique()) < 20
        assert torch.equal(EmbeddingIndex(keys, chunk=chunk).search(queries, k)[1], slow_search(queries, keys, k))

    def test_more_queries_than_are_looked_at_together(self):
        queries, keys = tied(600, seed=1), tied(30)
        assert torch.equal(EmbeddingIndex(keys).search(queries, 4)[1], slow_search(queries, keys, 4))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_type_follows_the_queries_and_is_computed_finely(self, dtype):
        queries, keys = unit(3, 256, seed=1).to(dtype), unit(200, 256).half()
        scores, rows = EmbeddingIndex(keys, chunk=64).search(queries, 5)
        assert (scores.dtype, rows.dtype) == (dtype, torch.int64)
        assert torch.equal(rows, slow_search(queries, keys, 5))

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
    @pytest.mark.parametrize("backend", ["exact", "faiss"])
    def test_device_follows_the_queries(self, backend):
        queries, keys = unit(3, seed=1), unit(50).float()
        scores, rows = EmbeddingIndex(keys, backend).search(queries.float().cuda(), 5)
        assert scores.is_cuda
        assert rows.is_cuda
        assert torch.equal(rows.cpu(), slow_search(queries, keys, 5))

    def test_keys_of_a_file_are_not_read_whole(self, tmp_path):
        keys = unit(100).float().numpy()
        write_embeddings(tmp_path / "e.npz", {"image": keys}, "f")
        mapped = read_embeddings(tmp_path / "e.npz", "f")["image"]
        seen = []

        class Counted:
            ndim, shape = 2, mapped.shape

            def __len__(self):
                return len(mapped)

            def __getitem__(self, part):
                seen.append(part.stop - part.start)
                return mapped[part]

        queries = unit(3, seed=1).float()
        rows = EmbeddingIndex(Counted(), chunk=30).search(queries, 7)[1]
        assert torch.equal(rows, slow_search(queries, torch.from_numpy(keys), 7))
        assert set(seen) == {30}

    @pytest.mark.parametrize(
        ("call", "words"),
        [
            (lambda: EmbeddingIndex(torch.ones(4)), "keys must be"),
            (lambda: EmbeddingIndex(torch.ones(0, 4)), "keys must be"),
            (lambda: EmbeddingIndex(torch.ones(2, 4), chunk=0), "chunk must be"),
            (lambda: EmbeddingIndex(torch.ones(2, 4), "fast"), "backend must be one of exact, faiss"),
            (lambda: EmbeddingIndex(torch.ones(2, 4)).search(torch.ones(1, 4), 0), "k must be 1"),
            (lambda: EmbeddingIndex(torch.ones(2, 4)).search(torch.ones(1, 5), 1), r"\(Q, 4\)"),
            (lambda: EmbeddingIndex(torch.ones(2, 4)).search(torch.ones(4), 1), r"\(Q, 4\)"),
        ],
    )
    def test_bad_arguments(self, call, words):
        with pytest.raises(ValueError, match=words):
            call()


class TestFaiss:
    @pytest.mark.parametrize("k", [1, 10, 250])
    def test_as_the_exact_one(self, k):
        pytest.importorskip("faiss")
        queries, keys = unit(5, seed=1).half(), unit(100).float()
        scores, rows = EmbeddingIndex(keys.numpy(), "faiss", chunk=30).search(queries, k)
        wanted_scores, wanted = EmbeddingIndex(keys).search(queries, k)
        assert torch.equal(rows, wanted)
        assert scores.dtype == torch.float16
        torch.testing.assert_close(scores, wanted_scores)

    def test_the_same_scores_stand_in_the_order_of_the_keys(self):
        pytest.importorskip("faiss")
        queries, keys = tied(9, seed=1), tied(60)
        rows = EmbeddingIndex(keys, "faiss").search(queries, 60)[1]
        assert torch.equal(rows, slow_search(queries, keys, 60))

    @pytest.mark.parametrize("count", [1, 19, 20, 100])
    def test_many_queries_are_multiplied_at_once(self, count, monkeypatch):
        """faiss took up to three times as long for them."""
        asked = []
        monkeypatch.setattr(EmbeddingIndex, "_faiss_index", lambda self: "an index")
        monkeypatch.setattr(
            EmbeddingIndex, "_nearest_by_faiss", lambda *args: asked.append(1) or args[0]._nearest(*args[1:])
        )
        queries, keys = unit(count, seed=1), unit(50)
        rows = EmbeddingIndex(keys, "faiss").search(queries, 5)[1]
        assert torch.equal(rows, slow_search(queries, keys, 5))
        assert bool(asked) == (count < 20)

    def test_says_what_to_install(self, monkeypatch):
        monkeypatch.setattr("monai_mgca.utils.extras.find_spec", lambda name: None)
        with pytest.raises(DataError, match=r'pip install "monai-mgca\[faiss\]"'):
            EmbeddingIndex(unit(3), "faiss")


class TestFile:
    ARRAYS = {
        "image": np.arange(12, dtype=np.float32).reshape(3, 4),
        "names": np.char.encode(["a", "bc", "ö"], "utf-8"),
    }

    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "new" / "e.npz"
        write_embeddings(path, self.ARRAYS, "sha256:1")
        return path

    def test_comes_back(self, path):
        found = read_embeddings(path, "sha256:1")
        assert found.keys() == self.ARRAYS.keys()
        assert all(np.array_equal(found[name], array) for name, array in self.ARRAYS.items())
        assert isinstance(found["image"], np.memmap)
        assert not found["image"].flags.writeable
        assert [file.name for file in path.parent.iterdir()] == ["e.npz"]

    def test_numpy_reads_it_without_pickle(self, path):
        with np.load(path, allow_pickle=False) as file:
            assert set(file) == {"image", "names", "fingerprint"}
            assert np.char.decode(file["names"], "utf-8").tolist() == ["a", "bc", "ö"]

    def test_no_file(self, tmp_path):
        assert read_embeddings(tmp_path / "none.npz", "sha256:1") is None

    def test_another_fingerprint(self, path, caplog):
        caplog.set_level("INFO")
        assert read_embeddings(path, "sha256:2") is None
        assert "another checkpoint" in caplog.text

    def test_damage_is_seen_wherever_it_is(self, path, caplog):
        whole = path.read_bytes()
        image = whole.index(self.ARRAYS["image"].tobytes())
        flipped = bytearray(whole)
        flipped[image + 5] ^= 1
        for content in (b"", b"no zip", whole[: len(whole) // 2], whole[:-10], bytes(flipped)):
            path.write_bytes(content)
            caplog.clear()
            assert read_embeddings(path, "sha256:1") is None
            assert "is damaged" in caplog.text

    def test_every_length(self, path):
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            assert read_embeddings(path, "sha256:1") is None

    def test_a_foreign_file(self, path, caplog):
        np.savez(path, image=np.ones(3))
        assert read_embeddings(path, "sha256:1") is None
        np.savez_compressed(path, image=np.ones(3), fingerprint=np.array("sha256:1"))
        assert read_embeddings(path, "sha256:1") is None
        assert caplog.text.count("is damaged") == 2

    def test_objects_are_refused(self, path, caplog):
        np.savez(path, image=np.array([{}], dtype=object), fingerprint=np.array("sha256:1"))
        assert read_embeddings(path, "sha256:1") is None
        assert "is damaged" in caplog.text

    def test_fingerprint(self, tmp_path):
        (tmp_path / "a").write_bytes(b"12")
        found = {fingerprint_of([tmp_path / "a"], ["x"]), fingerprint_of([tmp_path / "a"], ["y"])}
        found |= {fingerprint_of([tmp_path / "a", tmp_path / "none"], ["x"]), fingerprint_of([], ["x"])}
        assert fingerprint_of([tmp_path / "a"], ["x"]) in found
        (tmp_path / "a").write_bytes(b"13")
        assert len(found | {fingerprint_of([tmp_path / "a"], ["x"])}) == 5
