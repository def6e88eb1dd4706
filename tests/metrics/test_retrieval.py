# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from monai_mgca.metrics import RetrievalMetric, chance_retrieval, compute_retrieval
from monai_mgca.metrics.retrieval import _ranks, own_ranks


def retrieval(scores, tokens=None, ks=(1, 2)):
    """The figures for a given matrix of scores, of images in rows and reports in columns."""
    scores = torch.as_tensor(scores, dtype=torch.float64)
    tokens = torch.arange(len(scores)) if tokens is None else torch.tensor(tokens)
    return compute_retrieval(scores, torch.eye(len(scores), dtype=scores.dtype), tokens[:, None], ks)


def unit(rows, size, seed=0):
    return F.normalize(torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)), dim=1)


def slow_ranks(scores, group):
    """One more than the wrong answers that score higher than the best right one, each compared by itself."""
    ranks = []
    for row, own in zip(scores.tolist(), group.tolist(), strict=True):
        right = [score for score, other in zip(row, group.tolist(), strict=True) if other == own]
        best = math.nan if any(map(math.isnan, right)) else max(right)
        wrong = [score for score, other in zip(row, group.tolist(), strict=True) if other != own]
        ranks.append(1 + sum(not score <= best for score in wrong))
    return ranks


class TestByHand:
    # ranks of the own report: 1, 2, 3; of the own image: 1, 2, 2
    scores = [[0.9, 0.1, 0.2], [0.3, 0.5, 0.6], [0.8, 0.7, 0.4]]

    def test_figures(self):
        result = retrieval(self.scores)
        assert result == {
            "image_to_report_recall_at_1": pytest.approx(1 / 3),
            "image_to_report_recall_at_2": pytest.approx(2 / 3),
            "image_to_report_median_rank": 2,
            "report_to_image_recall_at_1": pytest.approx(1 / 3),
            "report_to_image_recall_at_2": 1,
            "report_to_image_median_rank": 2,
            "mean_recall": pytest.approx((1 / 3 + 2 / 3 + 1 / 3 + 1) / 4),
        }

    def test_equal_reports_are_one_answer(self):
        # reports 0 and 2 are the same: image 2 finds the best of them, and the others gain no rank by it
        result = retrieval(self.scores, tokens=[7, 8, 7])
        assert result["image_to_report_recall_at_1"] == pytest.approx(2 / 3)
        assert result["image_to_report_recall_at_2"] == 1
        assert result["report_to_image_recall_at_1"] == pytest.approx(1 / 3)
        # report 2 is answered by image 2 as well as by image 0: only image 1 is wrong
        assert result["report_to_image_recall_at_2"] == 1

    def test_ties_do_not_hurt(self):
        assert retrieval([[0.5] * 3] * 3)["mean_recall"] == 1

    def test_perfect_and_reversed(self):
        assert retrieval(np.eye(4))["mean_recall"] == 1
        assert retrieval(1 - np.eye(4), ks=(1, 3))["mean_recall"] == 0

    def test_what_is_not_a_number_is_no_hit(self):
        """Comparisons with nan are never true: it must not come first because nothing is better."""
        everything = torch.full((20, 4), torch.nan)
        result = compute_retrieval(everything, everything, torch.arange(20)[:, None], ks=(1, 19))
        assert result["mean_recall"] == 0
        assert result["image_to_report_median_rank"] == 20
        one = unit(20, 4)
        one[3] = torch.nan
        result = compute_retrieval(one, unit(20, 4), torch.arange(20)[:, None], ks=(1, 2))
        assert result["image_to_report_recall_at_1"] == pytest.approx(0.95)  # it alone is not found
        assert result["report_to_image_recall_at_1"] == 0  # and it may be better than the right one
        assert result["report_to_image_recall_at_2"] == pytest.approx(0.95)


class TestAgainstALoop:
    def test_random_scores_with_equal_reports(self):
        image, report = unit(23, 4), unit(23, 4, seed=1)
        tokens = torch.arange(23) % 9
        result = compute_retrieval(image, report, tokens[:, None], ks=(1, 5))
        scores = image @ report.T
        ranks = []
        for i in range(23):
            best = max(scores[i, j] for j in range(23) if tokens[j] == tokens[i])
            ranks.append(1 + sum(bool(scores[i, j] > best and tokens[j] != tokens[i]) for j in range(23)))
        assert result["image_to_report_recall_at_5"] == pytest.approx(np.mean(np.array(ranks) <= 5))
        assert result["image_to_report_median_rank"] == np.median(ranks)

    @given(
        count=st.integers(1, 30),
        groups=st.integers(1, 30),
        chunk=st.sampled_from((1, 4, 7, 30, 512)),
        seed=st.integers(0, 1000),
        kind=st.sampled_from(("random", "tied", "same", "not a number", "infinite")),
        dtype=st.sampled_from((torch.float16, torch.float32, torch.float64)),
    )
    def test_every_rank_is_that_of_the_whole_product(self, count, groups, chunk, seed, kind, dtype):
        generator = torch.Generator().manual_seed(seed)
        group = torch.randint(groups, (count,), generator=generator)
        # whole numbers: products are exact, and many scores are the same
        image, report = (torch.randint(-2, 3, (count, 3), generator=generator).to(dtype) for _ in "ab")
        if kind == "random":
            image, report = unit(count, 4, seed).double(), unit(count, 4, seed + 1).double()
        elif kind == "same":
            image, report = image[:1].expand(count, 3), report[:1].expand(count, 3)
        elif kind != "tied":
            image, report = image.clone(), report.clone()
            value = torch.nan if kind == "not a number" else torch.inf
            image[seed % count, 0], report[(seed // 7) % count, 1] = value, value
        for found, query, key in zip(
            _ranks(image, report, group, chunk), (image, report), (report, image), strict=True
        ):
            assert found.tolist() == slow_ranks(query @ key.T, group)
            assert own_ranks(query, key, group[:, None]).equal(found)

    @pytest.mark.parametrize("count", [1, 100, 513, 1024, 1500])
    def test_collapsed_embeddings_tie_whatever_the_blocks_are(self, count):
        one = unit(1, 128).expand(count, 128)
        assert compute_retrieval(one, one, torch.arange(count)[:, None])["mean_recall"] == 1


class Counted(TorchDispatchMode):
    """How many operations there were, and of how many elements the largest tensor that they made was."""

    operations = largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operations += 1
        if isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.numel())
        return result


class TestLargeSets:
    def test_no_tensor_grows_with_a_block_times_the_set(self):
        image, report, tokens = unit(3000, 4), unit(3000, 4, seed=1), torch.arange(3000)[:, None]
        with Counted() as counted:
            compute_retrieval(image, report, tokens)
        assert counted.largest <= 512 * 512

    def test_all_reports_are_the_same(self):
        ranks = _ranks(unit(600, 4), unit(600, 4, seed=1), torch.zeros(600, dtype=torch.long), chunk=128)
        assert all((way == 1).all() for way in ranks)

    def test_chance_takes_no_step_for_every_rank(self):
        with Counted() as counted:
            found = chance_retrieval(torch.arange(20_000)[:, None])
        assert counted.operations < 1000
        assert found["chance_recall_at_5"] == pytest.approx(5 / 20_000)
        assert found["chance_median_rank"] == 10_000


class TestMetric:
    def test_batches_equal_the_whole(self):
        image, report, tokens = unit(11, 4), unit(11, 4, seed=1), torch.arange(11)[:, None]
        metric = RetrievalMetric(ks=(1, 3))
        for part in (slice(0, 5), slice(5, 10), slice(10, 11)):
            metric(image[part], report[part], report_tokens=tokens[part])
        assert metric.aggregate() == compute_retrieval(image, report, tokens, (1, 3))
        metric.reset()
        metric(image[:2], image[:2], report_tokens=tokens[:2])
        assert metric.aggregate()["mean_recall"] == 1

    def test_ill_arguments(self):
        metric, image, tokens = RetrievalMetric(), unit(4, 3), torch.arange(4)[:, None]
        with pytest.raises(ValueError, match=r"both be \(B, D\), got \(4, 3\), \(3, 3\)"):
            metric(image, image[:3], report_tokens=tokens)
        with pytest.raises(ValueError, match="report_tokens"):
            metric(image, image)
        with pytest.raises(ValueError, match="no data"):
            RetrievalMetric().aggregate()


@pytest.mark.parametrize("case", range(4))
def test_official_accuracy(shared, case):
    """The official code's precision_at_k: the mean of both directions, in percent."""
    with np.load(shared / "goldens" / "precision_at_k.npz") as file:
        scores, expected = file[f"scores_{case}"], json.loads(bytes(file["info_json"]))[case]
    result = retrieval(scores, ks=(1, 5))
    for k in (1, 5):
        both = [result[f"{way}_recall_at_{k}"] for way in ("image_to_report", "report_to_image")]
        assert 100 * both[0] == pytest.approx(expected["i2t"][k // 5], abs=1e-4)
        assert 100 * both[1] == pytest.approx(expected["t2i"][k // 5], abs=1e-4)
        assert 50 * sum(both) == pytest.approx(expected[f"acc{k}"], abs=1e-4)


class TestChance:
    @pytest.mark.parametrize("tokens", [list(range(12)), [0] * 6 + list(range(1, 7)), [0] * 12, [5, 5, 7, 7]])
    def test_as_the_mean_of_random_scores(self, tokens):
        found = chance_retrieval(torch.tensor(tokens)[:, None], ks=(1, 3))
        generator = np.random.default_rng(0)
        drawn = [retrieval(generator.random((len(tokens),) * 2), tokens, (1, 3)) for _ in range(300)]
        for k in (1, 3):
            mean = np.mean([figures[f"image_to_report_recall_at_{k}"] for figures in drawn])
            assert found[f"chance_recall_at_{k}"] == pytest.approx(mean, abs=0.03)

    def test_by_hand(self):
        found = chance_retrieval(torch.arange(10)[:, None], ks=(1, 5, 10, 20))
        assert [found[f"chance_recall_at_{k}"] for k in (1, 5, 10, 20)] == pytest.approx([0.1, 0.5, 1, 1])
        assert found["chance_median_rank"] == 5
        # two of four are right: the first is one of them with 1/2, one of the first two with 1 - 1/2 * 1/3
        found = chance_retrieval(torch.tensor([[1], [1], [2], [2]]), ks=(1, 2))
        assert [found["chance_recall_at_1"], found["chance_recall_at_2"]] == pytest.approx([1 / 2, 5 / 6])
        assert found["chance_median_rank"] == 1
