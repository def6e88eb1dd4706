# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import time

import pytest
import requests
from commands import environment

from monai_mgca.label import label_command as command
from monai_mgca.label.label_settings import LabelSettings
from monai_mgca.utils import DataError


@pytest.fixture
def studies(tmp_path, save_image):
    (tmp_path / "studies").mkdir()
    save_image(tmp_path / "studies" / "a.png")
    return tmp_path / "studies"


@pytest.fixture
def run(label_bundle, studies, tmp_path, monkeypatch, capsys):
    """The command without the server itself; gives its exit code, what it printed, and the server's arguments."""
    started = []
    monkeypatch.setattr("monailabel.main.Main.run", lambda _: started.append(sys.argv[1:]))
    monkeypatch.setattr(sys, "argv", ["x"])
    monkeypatch.setenv("MGCA_ALLOWED_HOSTS", "")

    def command_line(*options, **replaced):
        os.environ.pop("MGCA_ALLOWED_HOSTS", None)
        usual = {"studies": studies, "bundle": label_bundle, "app-dir": tmp_path / "app", **replaced}
        given = [word for key, value in usual.items() for word in (f"--{key}", str(value))]
        code = command.main([*given, *options])
        return code, capsys.readouterr(), started

    return command_line


def test_makes_an_app_and_starts_the_server_for_this_machine(run, tmp_path, studies, label_bundle):
    code, printed, started = run()
    assert code == 0
    app = tmp_path / "app"
    assert len((app / "main.py").read_text().strip().splitlines()) <= 3
    assert LabelSettings.load(app) == LabelSettings(app, label_bundle, device=LabelSettings.load(app).device)
    assert started[0][:6] == ["start_server", "--app", str(app), "--studies", str(studies), "--host"]
    assert started[0][6:9] == ["127.0.0.1", "--port", "8000"]
    assert os.environ["MGCA_ALLOWED_HOSTS"] == "127.0.0.1,localhost,[::1]"
    assert "Models: segmentation, detection, classification, grounding." in printed.out
    assert "http://127.0.0.1:8000" in printed.out
    assert not printed.err
    run("--models", "grounding")  # the same folder, other settings
    assert LabelSettings.load(app).models == ("grounding",)


def test_other_addresses_are_warned_of(run):
    code, printed, started = run("--host", "0.0.0.0", "--port", "8123")
    assert code == 0
    assert "--host 0.0.0.0 --port 8123" in " ".join(started[0])
    assert "whoever reaches 0.0.0.0" in printed.err
    assert "MGCA_ALLOWED_HOSTS" not in os.environ


def test_every_loopback_address_is_allowed(run):
    code, _, _ = run("--host", "127.0.0.2")
    assert code == 0
    assert os.environ["MGCA_ALLOWED_HOSTS"].split(",")[-1] == "127.0.0.2"


def test_options_of_an_earlier_start_are_forgotten(run, tmp_path):
    run("--reports", str(tmp_path))
    assert LabelSettings.load(tmp_path / "app").reports == tmp_path
    run()
    assert LabelSettings.load(tmp_path / "app").reports is None


def test_models_without_weights_are_reported(run, label_bundle, tmp_path):
    bundle = shutil.copytree(label_bundle, tmp_path / "mgca", ignore=shutil.ignore_patterns("model_detection.*"))
    _, printed, _ = run(bundle=bundle)
    assert "Models: segmentation, classification, grounding. After training: detection." in printed.out


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("studies", "nowhere", "studies: there is no folder nowhere"),
        ("bundle", "nowhere", "holds no configs/metadata.json"),
        ("models", "segmentation,magic", "models: there is no magic"),
        ("reports", "nowhere", "reports: there is no folder nowhere"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_starts(run, tmp_path, option, value, message):
    code, printed, started = run(**{option: value})
    assert code == 2
    assert message in printed.err
    assert not started
    assert not (tmp_path / "app").exists()


def test_needs_a_pretraining(run, label_bundle, tmp_path):
    bundle = shutil.copytree(label_bundle, tmp_path / "mgca", ignore=shutil.ignore_patterns("model_pretrain.pt"))
    code, printed, started = run(bundle=bundle)
    assert code == 2
    assert "pretrain first" in printed.err
    assert not started


def test_without_monai_label_it_says_what_to_install(run, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    code, printed, started = run()
    assert code == 2
    assert 'pip install "monai-mgca[label]"' in printed.err
    assert not started


def test_the_folder_of_another_app_is_left_alone(run, tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("something else")
    code, printed, started = run()
    assert code == 2
    assert "holds another app" in printed.err
    assert not started
    assert (tmp_path / "app" / "main.py").read_text() == "something else"


def test_settings_of_a_start_by_monai_label(label_bundle, tmp_path):
    settings = LabelSettings(tmp_path / "app", label_bundle, ("grounding",))
    command.make_app(settings)
    assert LabelSettings.load(tmp_path / "app").models == ("grounding",)
    given = LabelSettings.load(tmp_path / "app", {"models": "segmentation, detection", "server_mode": "true"})
    assert given.models == ("segmentation", "detection")
    assert given.bundle == label_bundle
    with pytest.raises(DataError, match=r"holds no mgca\.json"):
        LabelSettings.load(tmp_path)


def test_monai_labels_own_command_starts_the_same(forks, label_bundle, studies, tmp_path):
    command.make_app(LabelSettings(tmp_path / "app", label_bundle))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    words = ["monailabel.main", "start_server", "--app", str(tmp_path / "app"), "--studies", str(studies)]
    server = forks.start(
        *("-m", *words, "--host", "127.0.0.1", "--port", port),
        cwd=tmp_path,
        env=environment(MONAI_LABEL_AUTO_UPDATE_SCORING="false"),
        output=tmp_path / "output.txt",
        start_new_session=True,
        forking=True,
    )
    try:
        for _ in range(2400):
            try:
                info = requests.get(f"http://127.0.0.1:{port}/info/", timeout=5).json()
                break
            except requests.ConnectionError:
                assert server.poll() is None, (tmp_path / "output.txt").read_text()[-2000:]
                time.sleep(0.05)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)
    assert info["name"] == "MGCA"
    assert list(info["models"])[-1] == "grounding"
