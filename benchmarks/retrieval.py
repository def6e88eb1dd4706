# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""How long a search among many embeddings, the figures of a whole set and Sinkhorn's codes take, beside plain ways.

Every way of searching runs in a process of its own and answers the same queries from the same file; the results must
be the same. The plain way is one full matrix product with a sort. Then the recalls and ranks of many pairs, beside the
same from all scores sorted, and the codes of a large matrix, beside Sinkhorn-Knopp as it was published. With a
checkpoint the encoding of a text query is timed too.

    python benchmarks/retrieval.py --count 100000 --pairs 5000 100000
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import alternate
from monai.utils import optional_import

from monai_mgca.apps import EmbeddingIndex, load_pretrained
from monai_mgca.io.embedding_file import read_embeddings, write_embeddings
from monai_mgca.losses import sinkhorn
from monai_mgca.metrics import chance_retrieval, compute_retrieval

WAYS = ("full product", "exact", "faiss")
SORTED_AT_MOST = 20_000  # pairs, whose scores and their order take 9 GB
CODES = ((144, 500), (1024, 500), (4096, 3000))  # two GPUs of the paper, many of them, and a large self-supervised one
TEXT = "small left pleural effusion"


class PeakMemory:
    """Megabytes that the process takes at most in addition, pages of mapped files not counted."""

    def __enter__(self) -> PeakMemory:
        self.before, self.peak, self.stop = self._now(), 0.0, threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.stop.wait(0.0005):
            self.peak = max(self.peak, self._now() - self.before)

    @staticmethod
    def _now() -> float:
        text = Path("/proc/self/status").read_text()
        return int(text.split("RssAnon:")[1].split()[0]) / 1024


def full_product(keys: np.ndarray) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """The plain way: all scores at once, all of them sorted."""
    held = torch.from_numpy(np.array(keys))
    return lambda queries, k: (queries @ held.T).sort(dim=1, descending=True, stable=True).indices[:, :k]


def searcher(way: str, keys: np.ndarray, chunk: int) -> Callable[[torch.Tensor, int], torch.Tensor]:
    if way == "full product":
        return full_product(keys)
    index = EmbeddingIndex(keys, way, chunk)
    return lambda queries, k: index.search(queries, k)[1]


def measure(way: str, path: str, counts: list[int], args: argparse.Namespace) -> dict[str, Any]:
    """Seconds to make ready, and for each number of queries the median seconds; megabytes; the rows found."""
    keys = read_embeddings(path, "benchmark")["image"]
    queries = torch.nn.functional.normalize(torch.randn(max(counts), args.dim), dim=-1)
    torch.nn.functional.normalize(torch.randn(8, 8)) @ torch.randn(8, 8)
    with PeakMemory() as memory:
        start = time.perf_counter()
        search = searcher(way, keys, args.chunk)
        ready = time.perf_counter() - start
        result: dict[str, Any] = {"ready": ready}
        for count in counts:
            seconds = []
            for _ in range(args.repeats):
                start = time.perf_counter()
                rows = search(queries[:count], args.k)
                seconds.append(time.perf_counter() - start)
            result[str(count)], result[f"first {count}"] = float(np.median(seconds)), seconds[0]
    return result | {"memory": memory.peak, "rows": rows.numpy()}


def run(job: tuple) -> dict[str, Any]:
    torch.manual_seed(0)
    torch.set_num_threads(job[-1].threads)
    return measure(*job)


def measure_search(args: argparse.Namespace) -> None:
    """Print the seconds and megabytes of every way of searching."""
    ways = [way for way in WAYS if way != "faiss" or optional_import("faiss")[1]]
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/embeddings.npz"
        keys = np.random.default_rng(1).standard_normal((args.count, args.dim), dtype=np.float32)
        write_embeddings(path, {"image": keys / np.linalg.norm(keys, axis=1, keepdims=True)}, "benchmark")
        found = {}
        for way in ways:  # one after the other, each in a process of its own
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found[way] = pool.apply(run, ((way, path, args.queries, args),))
    print(f"{args.count} embeddings of {args.dim}, the {args.k} nearest, chunks of {args.chunk}")
    heads = [f"{count} {'query' if count == 1 else 'queries'}" for count in args.queries]
    cells = "".join(f"{head + ' s':>16s}{'ratio':>8s}" for head in heads)
    print(f"{'':14s}{'ready s':>9s}{'first s':>9s}{cells}   MB")
    for way, result in found.items():
        assert np.array_equal(result["rows"], found[WAYS[0]]["rows"]), f"{way} finds others"
        cells = "".join(f"{result[str(n)]:16.4f}{result[str(n)] / found[WAYS[0]][str(n)]:8.2f}" for n in args.queries)
        print(f"{way:14s}{result['ready']:9.3f}{result[f'first {args.queries[0]}']:9.4f}{cells}{result['memory']:5.0f}")
    if "faiss" not in ways:
        print("faiss is not installed, and left out")


def sorted_retrieval(image: torch.Tensor, report: torch.Tensor, tokens: torch.Tensor) -> dict[str, float]:
    """The plain way: all scores at once, all of them sorted, the place of the first right answer."""
    scores, result = image @ report.T, {}
    group = torch.unique(tokens, dim=0, return_inverse=True)[1]
    for name, rows in (("image_to_report", scores), ("report_to_image", scores.T)):
        ranks = (group[rows.argsort(dim=1, descending=True)] == group[:, None]).byte().argmax(1) + 1
        result |= {f"{name}_recall_at_{k}": (ranks <= k).float().mean().item() for k in (1, 5, 10)}
        result[f"{name}_median_rank"] = ranks.float().quantile(0.5).item()
    return result


def measure_ranks(args: argparse.Namespace) -> None:
    """Print the seconds and megabytes of the figures of so many pairs."""
    print(f"\n{'figures of pairs':14s}{'counted s':>12s}{'MB':>8s}{'sorted s':>12s}{'MB':>8s}{'ratio':>8s}")
    clock = time.process_time if args.threads == 1 else time.perf_counter
    for count in args.pairs:
        generator = torch.Generator().manual_seed(count)
        unit = [torch.randn(count, args.dim, generator=generator) for _ in "ab"]
        image, report = (torch.nn.functional.normalize(x, dim=1) for x in (unit[0], unit[1] + unit[0] / 4))
        tokens = torch.randint(1000, (count, 112), generator=generator)
        tokens[: count // 10] = tokens[0]  # a tenth of the reports are the same
        seconds, memory, found = [], [], []
        for way in (compute_retrieval, sorted_retrieval)[: 1 + (count <= SORTED_AT_MOST)]:
            way(image[:500], report[:500], tokens[:500])
            with PeakMemory() as peak:
                start = clock()
                found.append(way(image, report, tokens))
                seconds.append(clock() - start)
            memory.append(peak.peak)
        assert all(abs(value - found[0][name]) < 1e-3 for name, value in found[-1].items()), "sorted finds others"
        cells = "".join(f"{s:12.2f}{m:8.0f}" for s, m in zip(seconds, memory, strict=True))
        print(f"{count:14d}{cells}" + (f"{seconds[1] / seconds[0]:8.1f}" if len(seconds) > 1 else ""))
    start = clock()
    chance_retrieval(tokens)
    print(f"chance of {count} pairs: {clock() - start:.2f} s")


@torch.no_grad()
def published_sinkhorn(scores: torch.Tensor, epsilon: float = 0.05, iterations: int = 3) -> torch.Tensor:
    """As in the pages of Caron et al.: exponentials of the scores themselves, columns and rows divided in turn."""
    codes = (scores / epsilon).exp_()
    codes /= codes.sum()
    for _ in range(iterations):
        codes /= codes.sum(0, keepdim=True) * codes.shape[1]
        codes /= codes.sum(1, keepdim=True) * codes.shape[0]
    return codes.mul_(codes.shape[0])


def measure_codes(args: argparse.Namespace) -> None:
    """Print the milliseconds of Sinkhorn's codes."""
    print(f"\n{'codes':14s}{'published ms':>14s}{'monai_mgca ms':>14s}{'ratio':>8s}{'difference':>12s}")
    for rows, columns in CODES:
        unit = [torch.nn.functional.normalize(torch.randn(n, args.dim), dim=1) for n in (rows, columns)]
        scores = unit[0] @ unit[1].T
        ways = {"published": lambda x=scores: published_sinkhorn(x), "monai_mgca": lambda x=scores: sinkhorn(x)}
        plain, own = alternate(ways, torch.device("cpu"), args.repeats).values()
        difference = float((published_sinkhorn(scores) - sinkhorn(scores)).abs().max())
        print(f"{f'{rows} x {columns}':14s}{1000 * plain:14.2f}{1000 * own:14.2f}{own / plain:8.2f}{difference:12.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("count", 100_000), ("dim", 128), ("k", 10), ("chunk", 16384), ("threads", 2), ("repeats", 20)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 100])
    parser.add_argument("--pairs", type=int, nargs="+", default=[5_000], help="whose recalls and ranks are computed")
    parser.add_argument("--checkpoint", help="model_pretrain.pt, to time the encoding of a text")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{args.threads} thread(s)")
    measure_search(args)
    measure_ranks(args)
    measure_codes(args)
    if args.checkpoint:
        model, seconds = load_pretrained(args.checkpoint), []
        for _ in range(args.repeats):
            start = time.perf_counter()
            model.embed_texts([TEXT])
            seconds.append(time.perf_counter() - start)
        print(f"encoding a text: {np.median(seconds):.4f} s, the first time {seconds[0]:.4f} s")


if __name__ == "__main__":
    main()
