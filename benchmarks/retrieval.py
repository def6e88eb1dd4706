# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""How long a search among many embeddings takes, and what memory: exact and faiss beside one full matrix product.

Every way of searching runs in a process of its own and answers the same queries from the same file; the results must
be the same. With a checkpoint the encoding of a text query is timed too.

    python benchmarks/retrieval.py --count 100000 --checkpoint bundles/mgca/models/model_pretrain.pt
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

from monai_mgca.inferers import EmbeddingIndex, load_pretrained
from monai_mgca.inferers.embedding_file import read_embeddings, write_embeddings

WAYS = ("full product", "exact", "faiss")
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("count", 100_000), ("dim", 128), ("k", 10), ("chunk", 16384), ("threads", 2), ("repeats", 20)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 100])
    parser.add_argument("--checkpoint", help="model_pretrain.pt, to time the encoding of a text")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/embeddings.npz"
        keys = np.random.default_rng(1).standard_normal((args.count, args.dim), dtype=np.float32)
        write_embeddings(path, {"image": keys / np.linalg.norm(keys, axis=1, keepdims=True)}, "benchmark")
        found = {}
        for way in WAYS:  # one after the other, each in a process of its own
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found[way] = pool.apply(run, ((way, path, args.queries, args),))
    print(
        f"{args.count} embeddings of {args.dim}, the {args.k} nearest, {args.threads} threads, chunks of {args.chunk}"
    )
    heads = [f"{count} {'query' if count == 1 else 'queries'}" for count in args.queries]
    print(
        f"{'':14s}{'ready s':>9s}{'first s':>9s}"
        + "".join(f"{head + ' s':>16s}{'ratio':>8s}" for head in heads)
        + "   MB"
    )
    for way, result in found.items():
        assert np.array_equal(result["rows"], found[WAYS[0]]["rows"]), f"{way} finds others"
        cells = "".join(f"{result[str(n)]:16.4f}{result[str(n)] / found[WAYS[0]][str(n)]:8.2f}" for n in args.queries)
        print(f"{way:14s}{result['ready']:9.3f}{result[f'first {args.queries[0]}']:9.4f}{cells}{result['memory']:5.0f}")
    if args.checkpoint:
        torch.set_num_threads(args.threads)
        model, seconds = load_pretrained(args.checkpoint), []
        for _ in range(args.repeats):
            start = time.perf_counter()
            model.embed_texts([TEXT])
            seconds.append(time.perf_counter() - start)
        print(f"encoding a text: {np.median(seconds):.4f} s, the first time {seconds[0]:.4f} s")


if __name__ == "__main__":
    main()
