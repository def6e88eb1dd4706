# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What reports of chest CTs say of 18 findings, by the prompts alone and a frozen sentence encoder: no image is seen.

A report is cut into sentences as a training cuts it. A sentence's score for a finding is its similarity to the texts
that state it less half of that to those that deny it, a report's that of its highest sentence. The rows of the table
are cut into two halves, even and odd: wordings are chosen on the first. Prints a table, docs/volumes.md has what came
out.

    python benchmarks/ct_text.py --reports reports_train.csv --encoder all-MiniLM-L6-v2
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from monai_mgca.apps.zero_shot.prompts import Prompts, find_prompts, read_prompts
from monai_mgca.data.sources.tables.finding_labels import read_labels
from monai_mgca.data.sources.tables.rows import read_rows
from monai_mgca.metrics.bootstrap import weighted_auroc_and_ap, with_intervals
from monai_mgca.text.report_reader import ReportReader
from monai_mgca.text.sentence_cleaner import SentenceCleaner

PROMPTS = Path(__file__).parents[1] / "bundles" / "mgca" / "configs" / "prompts_ct.json"
# of the denials: with 1 a sentence of something else, equally far from both, is above the denials; with 0 they are high
SHARE = 0.5
DENIES = re.compile(r"\b(?:no|not|without|nor|absent)\b")


class Encoder:
    """A frozen sentence encoder: the mean of its last states, as a unit vector.

    Args:
        folder: of its weights and tokenizer.
    """

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self.network = AutoModel.from_pretrained(folder, trust_remote_code=False).eval()

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
        """(N, E), of texts of similar length at a time."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = np.empty((len(texts), self.network.config.hidden_size), np.float32)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = self.tokenizer([texts[i] for i in rows], padding=True, truncation=True, return_tensors="pt")
            mask = batch["attention_mask"][..., None]
            means = (self.network(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
            vectors[rows] = torch.nn.functional.normalize(means, dim=1).numpy()
        return vectors

    def count(self, texts: Sequence[str]) -> np.ndarray:
        """The tokens of texts, the special ones among them."""
        return np.array([len(ids) for ids in self.tokenizer(list(texts), verbose=False)["input_ids"]])


def margins(sentences: np.ndarray, prompts: Prompts, encode: Encoder, share: float = SHARE) -> np.ndarray:
    """(S,) how near each sentence is to the texts that state a finding, less a share of that to those that deny it."""
    means = (encode(side).mean(0) for side in (prompts.positive, prompts.negative))
    positive, negative = (sentences @ (mean / np.linalg.norm(mean)) for mean in means)
    return positive - share * negative


def aurocs(scores: np.ndarray, labels: np.ndarray, classes: Sequence[str], replicates: int) -> dict[str, float]:
    """Of scores and labels (N, F), with the mean over the findings, and intervals of the reports."""

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        columns = [weighted_auroc_and_ap(s, y, weights)[0] for s, y in zip(scores.T, labels.T, strict=True)]
        return dict(zip([*classes, "mean"], [*columns, np.nanmean(columns, 0)], strict=True))

    return with_intervals(figures, len(labels), replicates)


def negation(margin: np.ndarray, sentences: Sequence[str], name: str) -> tuple[int, int, int, int]:
    """Of the sentences that name a finding: how many deny something, and of these how many are nearer to the denials;
    how many deny nothing, and of these how many are nearer to the statements."""
    named = np.array([name.lower() in sentence for sentence in sentences])
    denied = np.array([bool(DENIES.search(sentence)) for sentence in sentences])
    no, yes = named & denied, named & ~denied
    return int(no.sum()), int((margin[no] < 0).sum()), int(yes.sum()), int((margin[yes] > 0).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--reports", type=Path, required=True, help="table of AccessionNo, the text, a column a finding"
    )
    parser.add_argument("--text", default="report_text", metavar="COL", help="column of the text")
    parser.add_argument("--key", default="AccessionNo", metavar="COL", help="column of the reports' names")
    parser.add_argument("--encoder", type=Path, required=True, metavar="DIR", help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--prompts", type=Path, default=PROMPTS)
    parser.add_argument("--bootstrap", type=int, default=1000)
    args = parser.parse_args()

    rows = list(read_rows(args.reports, (args.key, args.text)))
    prompts = read_prompts(args.prompts)
    classes = [name for name in rows[0] if find_prompts(prompts, name)]
    of_report = read_labels(args.reports, args.key, classes)
    labels = np.array([of_report[row[args.key].strip()] for row in rows], dtype=float)
    clean, reader = SentenceCleaner(), ReportReader()
    readings = [reader.whole(row[args.text]) for row in rows]
    reports = [clean(reading.report) for reading in readings]
    places = {sentence: i for i, sentence in enumerate(sorted({*chain.from_iterable(reports)}))}
    encode = Encoder(args.encoder)
    tokens = encode.count([" ".join(f"{sentence}." for sentence in report) for report in reports])
    vectors = encode(list(places))
    margin = np.stack([margins(vectors, find_prompts(prompts, name), encode) for name in classes], axis=1)
    scores = np.array([margin[[places[sentence] for sentence in report]].max(0) for report in reports])

    words = sum(sum(reading.left_out.values()) for reading in readings)
    print(
        f"{len(rows)} reports, {sum(map(len, reports))} sentences, {len(places)} different ones; {words} words left out"
    )
    print(f"longer than 112 tokens: {(tokens > 112).sum()}, 256: {(tokens > 256).sum()}, 512: {(tokens > 512).sum()}")
    differences = np.stack([margins(vectors, find_prompts(prompts, name), encode, 1) for name in classes], axis=1)
    checked = [negation(column, list(places), name) for column, name in zip(differences.T, classes, strict=True)]
    no, denied, yes, stated = np.sum(checked, axis=0)
    print(f"sentences that name a finding: {denied} of {no} that deny something are nearer to the denials, ", end="")
    print(f"{stated} of {yes} others to the statements")
    halves = [slice(0, None, 2), slice(1, None, 2)]
    found = [aurocs(scores[half], labels[half], classes, args.bootstrap) for half in halves]
    print("\n| finding | reports with it | AUROC, first half | AUROC, second half |\n|---|---|---|---|")
    for name, number in [*zip(classes, labels.sum(0), strict=True), ("mean", np.nan)]:
        cells = [
            f"{f[name]:.3f}" + (f" ({f[f'{name}_low']:.3f} to {f[f'{name}_high']:.3f})" if args.bootstrap else "")
            for f in found
        ]
        print(f"| {name} | {'' if np.isnan(number) else int(number)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
