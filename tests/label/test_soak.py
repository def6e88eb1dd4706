# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""200 requests of 8 clients at once, half of them wrong, get the answers that one client gets; no label is lost."""

from __future__ import annotations

import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from monai_mgca.io.geometry import read_geometry, read_label_map, write_label_map

CANARY = "Canarywordium"
CLIENTS, EACH = 8, 25
ENDINGS = (".png", ".jpg", ".nii.gz", ".dcm")
IMAGES = [f"s{i:02d}" for i in range(9)]
REFUSED = (400, 404, 405, 409, 422)
STRATEGIES = ("mgca_diversity", "mgca_text", "mgca_disagreement", "mgca_uncertainty", "random")


@pytest.fixture(scope="module")
def studies(tmp_path_factory, save_image):
    folder = tmp_path_factory.mktemp("soak")
    for i, name in enumerate(IMAGES):
        values = np.random.default_rng(i).integers(0, 255, (60 + i, 50 + 2 * i), dtype=np.uint8)
        save_image(folder / f"{name}{ENDINGS[i % 4]}", values=values, patient=CANARY)
        (folder / f"{name}.txt").write_text(f"{CANARY} {i}. Small left pleural effusion.")
    return folder


@pytest.fixture(scope="module")
def server(start_server, studies, label_bundle):
    running = start_server(studies, label_bundle)
    assert running.wait_for("/scoring/")["status"] == "DONE"
    return running


def path_of(studies, image):
    return next(path for path in studies.glob(f"{image}.*") if path.suffix != ".txt")


def valid_jobs(studies):
    """Requests whose answer is the same whenever they are asked."""
    for i, image in enumerate(IMAGES):
        for model in ("segmentation", "detection", "classification", "grounding"):
            params = {"text": "left pleural effusion"} if model == "grounding" else {"score_threshold": 0.01}
            output = "image" if model in ("segmentation", "grounding") and i % 2 else "json"
            if (i + len(model)) % 3 == 0:
                data = {"params": json.dumps(params)}
                yield "POST", f"/infer/{model}?image={image}&output={output}", {"data": data}
        yield "GET", f"/datastore/image?image={image}", {}
    sent = path_of(studies, "s00")
    for model in ("classification", "detection"):
        yield "POST", f"/infer/{model}?output=json", {"files": {"file": (sent.name, sent.read_bytes())}}


def invalid_jobs(studies):
    """What a client may get wrong, or try."""
    image = path_of(studies, "s00").read_bytes()
    for name in (
        "s99",
        "../soak/s00",
        "/etc/passwd",
        "..\\s00",
        "s00%00",
        "a" * 3000,
        "%2e%2e/s00",
        ".",
        "datastore_v2",
    ):
        yield "POST", f"/infer/segmentation?image={name}", {}
        yield "GET", f"/datastore/image?image={name}", {}
        yield "PUT", f"/datastore/label?image={name}", {"files": {"label": ("x.nrrd", b"x")}}
    for tag in ("../../x", "a/b", "", " ", "%00", ".hidden"):
        yield "GET", f"/datastore/label?label=s00&tag={tag}", {}
        if tag:
            yield "PUT", f"/datastore/label?image=s00&tag={tag}", {"files": {"label": ("x.nrrd", b"x")}}
    for text in ("{", "[]", "1", '"text"', "null", "\x00", "[" * 9999, '{"x": NaN, "score_threshold": 1e999}'):
        yield "POST", "/infer/detection?image=s00&output=json", {"data": {"params": text}}
        yield "PUT", "/datastore/image/info?image=s00", {"data": {"info": text}}
    yield "POST", "/infer/detection?image=s00", {"data": {"params": '{"score_threshold": "x"}'}}
    yield "POST", "/infer/segmentation?image=s00", {"data": {"params": json.dumps({"result_extension": "/x.py"})}}
    yield "POST", "/infer/segmentation?image=s00", {"data": {"params": json.dumps({"image": "/etc/passwd"})}}
    yield "POST", "/infer/grounding?image=s00", {"data": {"params": json.dumps({"text": "left " * 400})}}
    yield "POST", "/infer/nothing?image=s00", {}
    for content in (b"", b"no image", image[: len(image) // 2], os.urandom(4 << 20), b"\x89PNG\r\n\x1a\n" + bytes(99)):
        yield "POST", "/infer/segmentation?output=json", {"files": {"file": ("x.png", content)}}
    yield "POST", "/infer/segmentation?output=json", {"files": {"file": ("../../x.png", b"no image")}}
    dicom = path_of(studies, "s03").read_bytes()
    yield "POST", "/infer/segmentation?output=json", {"files": {"file": ("x.dcm", dicom[:-100])}}
    yield "PUT", "/datastore/image?image=../x", {"files": {"file": ("x.png", image)}}
    yield "PUT", "/datastore/image?image=s00", {"files": {"file": ("x.txt", image)}}
    yield "PUT", "/session/?uncompress=true", {"files": {"files": ("x.tar", b"x")}}
    yield "GET", "/session/../../etc/passwd", {}
    yield "POST", "/activelearning/guess", {"json": {}}
    yield "POST", "/activelearning/mgca_text", {"json": {"text": ""}}
    yield "POST", "/activelearning/mgca_uncertainty", {"json": {"weight": "much"}}
    yield "POST", "/activelearning/random", {"data": "{"}
    yield "POST", "/train/nothing", {}
    yield "GET", "/info/", {"headers": {"Host": "elsewhere.example"}}


def answer_of(response, folder):
    """What must be the same: the code, and the content but for times and temporary names."""
    kind = response.headers.get("content-type", "")
    if "json" in kind:
        content = response.json()
        if isinstance(content, dict):
            content.pop("latencies", None)
        return response.status_code, re.sub(r"/[\w/.-]*tmp\w*", "TMP", json.dumps(content, sort_keys=True))
    if "multipart" in kind or "attachment" in response.headers.get("content-disposition", ""):
        name = re.search(r'filename="[^"]*?((\.\w+)+)"', response.headers.get("content-disposition", 'filename=".x"'))
        if name[1] in (".nrrd", ".nii.gz"):  # compressed, with a time in it
            path = Path(folder) / f"{time.monotonic_ns()}{name[1]}"
            path.write_bytes(response.content)
            return response.status_code, read_label_map(path).tobytes()
    return response.status_code, response.content


def memory(pid):
    """Bytes in memory of a process and those that it started."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(map(memory, children))


class Client:
    """One of the clients, with labels of its own."""

    def __init__(self, number, server, studies, jobs, wanted, folder):
        self.number, self.server, self.studies = number, server, studies
        self.jobs, self.wanted, self.folder = jobs, wanted, folder / f"client{number}"
        self.folder.mkdir()
        self.saved, self.wrong, self.codes = {}, [], []

    def run(self):
        for turn in range(EACH):
            if turn % 5 == 1:
                self.save_label(turn)
            elif turn % 5 == 3:
                self.next_sample(turn)
            else:
                self.same_as_alone((self.number * 37 + turn * 11) % len(self.jobs))
        return self

    def same_as_alone(self, place):
        method, path, arguments = self.jobs[place]
        answer = answer_of(self.server.ask(method, path, **arguments), self.folder)
        self.codes.append(answer[0])
        if answer != self.wanted[place]:
            self.wrong.append((method, path[:80], str(answer)[:300], str(self.wanted[place])[:300]))

    def save_label(self, turn):
        """Of an image of any client's, under a tag of its own; some are replaced later."""
        image, tag = IMAGES[(self.number + turn) % len(IMAGES)], f"client{self.number}"
        geometry = read_geometry(path_of(self.studies, image))
        mask = np.random.default_rng(1000 * self.number + turn).integers(0, 2, geometry.size[::-1]).astype(np.uint8)
        path = self.folder / f"{image}_{turn}.nrrd"
        write_label_map(mask, geometry, path)
        files = {"label": (path.name, path.read_bytes())}
        params = {"params": json.dumps({"label_info": [{"name": f"lung{turn}", "idx": 1}]})}
        answer = self.server.ask("PUT", f"/datastore/label?image={image}&tag={tag}", files=files, data=params)
        self.codes.append(answer.status_code)
        self.saved[image, tag] = path.read_bytes(), f"lung{turn}"
        back = self.server.ask("GET", f"/datastore/label?label={image}&tag={tag}")
        if answer.status_code != 200 or back.content != path.read_bytes():
            self.wrong.append(("label", image, tag, answer.text[:300]))

    def next_sample(self, turn):
        strategy = STRATEGIES[(self.number + turn) % len(STRATEGIES)]
        params = {"text": f"left pleural effusion {CANARY}"} if strategy == "mgca_text" else {}
        answer = self.server.ask("POST", f"/activelearning/{strategy}", json=params)
        self.codes.append(answer.status_code)
        if answer.status_code != 200 or answer.json().get("id") not in IMAGES or CANARY in answer.text:
            self.wrong.append((strategy, answer.status_code, answer.text[:300]))


def test_soak(server, studies, tmp_path):
    jobs = [*valid_jobs(studies), *invalid_jobs(studies)]
    wanted = [answer_of(server.ask(method, path, **arguments), tmp_path) for method, path, arguments in jobs]
    assert not [text for _, text in wanted if isinstance(text, str) and CANARY in text]
    good = len(list(valid_jobs(studies)))
    assert {code for code, _ in wanted[:good]} == {200}
    answered = list(zip(jobs, wanted, strict=True))
    odd = [(job, answer) for job, answer in answered[good:] if answer[0] not in REFUSED]
    assert [(method, path[:60], str(more)[:80], str(answer)[:200]) for (method, path, more), answer in odd] == []
    again = [answer_of(server.ask(method, path, **arguments), tmp_path) for method, path, arguments in jobs[:good]]
    assert again == wanted[:good]
    for strategy in STRATEGIES:
        server.ask("POST", f"/activelearning/{strategy}", json={"text": "left pleural effusion"})
    before = memory(server.process.pid)

    clients = [Client(number, server, studies, jobs, wanted, tmp_path) for number in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        done = list(pool.map(Client.run, clients))

    assert [wrong for client in done for wrong in client.wrong] == []
    codes = [code for client in done for code in client.codes]
    assert len(codes) == CLIENTS * EACH
    assert codes.count(200) > 60
    assert sum(code >= 400 for code in codes) > 60
    saved = {key: value for client in done for key, value in client.saved.items()}
    known = server.ask("GET", "/datastore/?output=all").json()["objects"]
    for (image, tag), (content, name) in saved.items():
        assert (studies / "labels" / tag / f"{image}.nrrd").read_bytes() == content
        assert server.ask("GET", f"/datastore/label?label={image}&tag={tag}").content == content
        assert known[image]["labels"][tag]["info"]["label_info"][0]["name"] == name
    assert sum(len(value["labels"]) for value in known.values()) == len(saved)
    listed = json.loads((studies / "datastore_v2.json").read_text())["objects"]
    assert {(i, t) for i, value in listed.items() for t in value["labels"]} == set(saved)

    after = memory(server.process.pid)
    assert after < 1.15 * before, f"{before >> 20} MB before, {after >> 20} MB after"
    assert server.process.poll() is None
    assert server.ask("GET", "/info/").status_code == 200
    assert CANARY not in server.logs()
    print(f"{len(codes)} requests, {codes.count(200)} of them valid; {before >> 20} MB before, {after >> 20} MB after")


def test_what_the_clients_sent_is_gone(server):
    """But for what was refused, which the server removes within the hour."""
    assert not [path for path in (server.app_dir / "sessions").rglob("*") if path.is_file()]
    assert all(path.stat().st_size < 5 << 20 for path in (server.app_dir / "tmp").iterdir())
