# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


"""What people write on the command line: misspelled options, and texts that MONAI's command line makes values of."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import monai.bundle
import pytest
import torch
from monai.bundle import ConfigWorkflow

from monai_mgca.data import resolve_dataset
from monai_mgca.options import option_value
from monai_mgca.options.option_values import OPTIONS
from monai_mgca.utils import DataError, OptionError
from monai_mgca.utils.errors import first_cause

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "mgca" / "configs"
# nothing is trained: what a training would read is shown, and what leads to it is left out
SHOW = {"run": ["$seen.append(@shown)"], "prepare": [], "+imports": ["$from tests_options import seen"]}
PAIRS = [["train"], ["train", "evaluate"], ["train", "train_volume"], ["train", "official"], ["inference"]]
PAIRS += [["evaluate_zero_shot"], ["inference", "inference_volume"]]
for task in ("segmentation", "detection", "classification"):
    PAIRS += [[f"train_{task}"], [f"train_{task}", f"evaluate_{task}"], [f"inference_{task}"]]


@pytest.fixture
def show(tmp_path, monkeypatch, global_state):
    """Runs configs with an overlay that gives the values of options in place of a training."""
    monkeypatch.chdir(tmp_path)

    def run(shown, start, *names, **overlay):
        seen = []
        monkeypatch.setitem(sys.modules, "tests_options", type("module", (), {"seen": seen}))
        content = {**SHOW, **overlay, "shown": {name: f"@{name}" for name in shown}}
        (tmp_path / "overlay.json").write_text(json.dumps(content))
        files = [str(CONFIGS / f"{name}.json") for name in names or ("train",)] + [str(tmp_path / "overlay.json")]
        try:
            start(files)
        except Exception as error:  # MONAI wraps ours
            raise first_cause(error) from None
        return seen[0]

    return run


@pytest.fixture
def typed(show, monkeypatch):
    """The same by MONAI's command line."""

    def run(arguments, *shown, names=("train",), **overlay):
        def start(files):
            line = [
                "-",
                "run",
                "--config_file",
                str(files),
                "--logging_file",
                str(CONFIGS / "logging.conf"),
                *arguments,
            ]
            monkeypatch.setattr(sys, "argv", line)
            monkeypatch.setattr("monai.bundle.workflows._apply_logging_file", lambda path: None, raising=False)
            runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)

        found = show(shown, start, *names, **overlay)
        return found[shown[0]] if len(shown) == 1 else found

    return run


class TestUnknown:
    def test_the_near_miss_is_named(self, typed):
        with pytest.raises(OptionError) as caught:
            typed(
                ["--epoch", "3", "--lr", "1e-5", "--batchsize=4", "--freeze-report-encode", "true", "--max_epochs", "3"]
            )
        for name, meant in (("epoch", "epochs"), ("lr", "learning_rate"), ("batchsize", "batch_size")):
            assert f"--{name} (did you mean {meant}?)" in str(caught.value)
        assert "--freeze_report_encode (did you mean freeze_report_encoder?)" in str(caught.value)
        assert "--max_epochs (did you mean epochs?)" in str(caught.value)

    @pytest.mark.parametrize("names", PAIRS, ids="+".join)
    def test_in_every_config_from_python(self, names):
        """Nothing comes before the check, so nothing is there that it could be made of."""
        files = [str(CONFIGS / f"{name}.json") for name in names]
        workflow = ConfigWorkflow(files, logging_file=False, bundle_root="nowhere", batch_sise=3, dataset_dir="nowhere")
        with pytest.raises(RuntimeError) as caught:
            workflow.initialize()
        assert isinstance(first_cause(caught.value), OptionError)
        assert "--batch_sise (did you mean batch_size?)" in str(first_cause(caught.value))

    @pytest.mark.parametrize("name", ["multi_gpu_train", "multi_gpu_evaluate"])
    def test_with_several_processes(self, name, tmp_path):
        files = [str(CONFIGS / f"{name}.json") for name in ("train", "evaluate", name)]
        with pytest.raises(RuntimeError) as caught:
            ConfigWorkflow(files, logging_file=False, bundle_root=str(tmp_path), epocs=3).initialize()
        assert "--epocs (did you mean epochs?)" in str(first_cause(caught.value))

    def test_of_run(self, tmp_path):
        with pytest.raises(RuntimeError) as caught:
            monai.bundle.run(config_file=str(CONFIGS / "train.json"), logging_file=False, epoch=3, amp=False)
        assert "Unknown options: --epoch (did you mean epochs?)." in str(first_cause(caught.value))

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ("train#trainer#max_epoch", "SupervisedTrainer has no such argument (did you mean max_epochs?)"),
            ("train::dataloader::batchsize", "DataLoader has no such argument (did you mean batch_size?)"),
            ("train#epochs", "--train#epochs"),
            ("validate#handler", "--validate#handler (did you mean handlers?)"),
            ("loss#token#temprature", "TokenAlignmentLoss has no such argument (did you mean temperature?)"),
            ("hu_min", "an option of evaluate.json"),
        ],
    )
    def test_inner_parts(self, typed, option, message):
        with pytest.raises(OptionError) as caught:
            typed([f"--{option}", "3"])
        assert message in str(caught.value)

    def test_a_part_that_is_nowhere(self, typed):
        with pytest.raises(KeyError, match="trian"):
            typed(["--trian#trainer#max_epochs", "3"])

    @pytest.mark.parametrize("word", ["seed", "train", "ckpt_export"])
    def test_an_option_without_hyphens(self, typed, word):
        with pytest.raises(OptionError, match="Options begin with two hyphens, as in --epochs 3"):
            typed([word])


class TestKnown:
    @pytest.mark.parametrize(
        ("option", "value", "shown", "expected"),
        [
            ("epochs", "3", "epochs", 3),
            ("batch-size", "4", "batch_size", 4),
            ("train#trainer#max_epochs", "7", "train#trainer#max_epochs", 7),
            ("train#dataloader#pin_memory", "True", "train#dataloader#pin_memory", True),
            ("train#checkpoint#_disabled_", "True", "train#checkpoint", None),
            ("validate#additional_metrics#mine", "5", "validate#additional_metrics#mine", 5),
            ("train#inferer", "None", "seed", 42),
        ],
    )
    def test_is_taken(self, typed, option, value, shown, expected):
        if value == "None":
            with pytest.raises(OptionError, match=r"drops the value None of --train#inferer: write '\$None'"):
                typed([f"--{option}", value], shown)
        elif "#" not in shown or (option == shown and "trainer" not in shown):
            assert typed([f"--{option}", value], shown.replace("#", "::")) == expected
        else:
            typed([f"--{option}", value], "seed")

    def test_overlays_have_keys_of_their_own(self, typed, caplog):
        overlay = {"my_factor": 0.5, "learning_rate": "$@my_factor * 1e-3", "a_note": "of mine", "mine": ["$print(1)"]}
        with caplog.at_level("WARNING", "monai_mgca"):
            assert typed([], "learning_rate", **overlay) == 5e-4
            assert typed(["--my_factor", "2"], "learning_rate", **overlay) == 2e-3
        assert "no effect" not in caplog.text
        # misspelled in a file: nobody reads it, and something of nearly that name is read
        with caplog.at_level("WARNING", "monai_mgca"):
            typed([], "seed", epoch=3)
        assert "epoch of the config files has no effect (did you mean epochs?)" in caplog.text

    def test_misspelled_parts_in_a_file(self, typed, caplog):
        parts = {"train#final_transform": [], "train#mine": 3, "train#trainer#max_epochs": 4, "train#handler": []}
        with caplog.at_level("WARNING", "monai_mgca"):
            typed([], "seed", **parts, optimiser={"_target_": "torch.optim.SGD"}, my_numbers={"seeds": 1})
        unused = [text.split()[0] for text in caplog.messages if "of the config files has no effect" in text]
        assert unused == ["optimiser", "train#final_transform", "train#handler"]
        assert "train#final_transform of the config files has no effect (did you mean final_transforms?)" in caplog.text

    def test_options_without_effect_are_reported(self, typed, caplog):
        with caplog.at_level("WARNING", "monai_mgca"):
            typed(["--instance_weight", "0.5"], "seed", names=("train", "official"))
        assert "--instance_weight has no effect: no part of these configs reads it." in caplog.text

    def test_what_monai_label_and_federated_learning_give(self, show):
        """The overrides of MONAI Label's BundleTrainTask, and of MonaiAlgo, in which the files are not known."""
        given = {
            "bundle_root": ".",
            "train#trainer#max_epochs": 2,
            "train#dataset#data": [{"image": "a.png"}],
            "device": torch.device("cpu"),
            "train#handlers": [],
            "validate#dataset#data": [],
            "tracking_uri": "file:///t",
            "experiment_name": "e",
            "run_name": "r",
        }

        def direct(files):
            workflow = ConfigWorkflow(files, logging_file=False, **given)
            workflow.initialize()
            workflow.run()

        def run(files):
            monai.bundle.run(run_id="run", init_id=None, config_file=files, logging_file=False, **given)

        for start in (direct, run):
            assert show(["device"], start) == {"device": torch.device("cpu")}


class TestTexts:
    @pytest.mark.parametrize(
        "text",
        [
            "2024",
            "2024_01_15",
            "run#3",
            "007",
            "1,2",
            "True",
            "a b",
            "./@x",
            "1e3",
            "100%",
            "[1]",
            "{1}",
            "a@b#c",
            "x'y",
        ],
    )
    def test_a_folder_is_found_by_its_name(self, typed, text, tmp_path):
        (tmp_path / text).mkdir()
        data = typed(["--dataset_dir", text], "data_dir")
        assert data == text
        assert (tmp_path / data).is_dir()
        assert typed([f"--ckpt-dir={text}"], "ckpt_dir") == text

    def test_by_other_ways_than_the_configs(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "2024").mkdir()
        assert resolve_dataset(2024, "sample") == "2024"
        with pytest.raises(DataError, match=r"20240115. It came as the value 20240115, not as a text: write ./NAME"):
            resolve_dataset(20240115, "sample")

    def test_quotes_of_python_are_quotes(self, typed, tmp_path):
        (tmp_path / "2024").mkdir()
        assert typed(["--dataset_dir", "'2024'"], "data_dir") == "2024"

    @pytest.mark.parametrize("sign", ["@", "$"])
    def test_signs_of_monai_are_named(self, typed, tmp_path, sign):
        (tmp_path / f"{sign}x").mkdir()
        with pytest.raises(OptionError) as caught:
            typed(["--dataset_dir", f"{sign}x"], "data_dir")
        assert f"write ./{sign}x" in str(caught.value)

    def test_from_python(self, show, tmp_path):
        for name in ("2024", "a#b"):
            (tmp_path / name).mkdir()
        for given, expected in ((2024, "2024"), (Path("2024"), "2024"), ("a#b", "a#b"), (str(tmp_path / "a#b"), None)):

            def start(files, given=given):
                workflow = ConfigWorkflow(files, logging_file=False, dataset_dir=given)
                workflow.initialize()
                workflow.run()

            assert show(["data_dir"], start) == {"data_dir": expected or given}

    @pytest.mark.parametrize("text", ["None", "null", "none"])
    def test_no_value(self, typed, text):
        """MONAI drops None, so that the default would be taken in silence."""
        config = {"pretrained_path": "default.pt"}
        assert typed(["--pretrained_path", text], "pretrained_path", **config) is None
        assert typed(["--pretrained_path", "$None"], "pretrained_path", **config) is None
        # as the message about weights that cannot be reached advises
        assert typed(["--use_sample", "false", "--image_encoder_weights", text], "image_encoder_weights") is None

    def test_classes(self, typed):
        names = ("train_classification",)
        for text in ("a,b", "[a,b]", "['a','b']", "(a,b)"):
            assert typed(["--classes", text], "classes", names=names) == ["a", "b"]
        assert typed(["--classes", "pleural effusion, b"], "classes", names=names) == ["pleural effusion", "b"]
        assert typed(["--classes", "effusion"], "classes", names=names) == ["effusion"]
        assert typed(["--classes", "1,2"], "classes", names=names) == ["1", "2"]


GOOD = [
    ("epochs", "007", 7),
    ("epochs", 8.0, 8),
    ("learning_rate", "1e-4", 1e-4),
    ("learning_rate", 1, 1),
    ("amp", "TRUE", True),
    ("use_sample", "false", False),
    ("cache", None, "none"),
    ("image_size", [96, 96, 48], [96, 96, 48]),
    ("device", "cpu", torch.device("cpu")),
    ("report_encoder", {"vocab_size": 3}, {"vocab_size": 3}),
    ("report_layers", None, None),
    ("epochs", "$2 + 1", "$2 + 1"),
    ("anything", "else", "else"),
]
BAD = [
    ("learning_rate", ["1e-4x", "0", -1e-3, float("nan"), float("inf"), True, (1, 2), None, "1e-4 5"]),
    ("epochs", [0, -1, 1.5, "3x", True, None]),
    ("batch_size", [0, -4, "8,8"]),
    ("val_interval", [0]),
    ("num_workers", [-1, 0.5]),
    ("checkpoint_interval", [-1]),
    ("instance_temperature", [0, -0.1]),
    ("weight_decay", [-0.1]),
    ("token_weight", [-1]),
    ("label_fraction", [0, 2, -1, "10%"]),
    ("warmup", [1.5, -0.1]),
    ("score_threshold", [2]),
    ("amp", ["yes", 1, "maybe", None]),
    ("pool_report", ["max"]),
    ("cache", ["ram"]),
    ("ckpt_dir", [None, True, (1, 2)]),
    ("image_size", [0, "big", [64, 0]]),
    ("device", ["gpu"]),
    ("classes", [3, "a,,b", ""]),
]


@pytest.mark.parametrize(("name", "value", "expected"), GOOD)
def test_good_values(name, value, expected):
    found = option_value(name, value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(("name", "values"), BAD)
def test_bad_values_are_named(name, values):
    for value in values:
        with pytest.raises(OptionError, match=f"{name} must be "):
            option_value(name, value)


def test_bad_values_end_before_anything_starts(typed):
    with pytest.raises(OptionError, match="learning_rate must be a number above 0, got '1e-4x'"):
        typed(["--learning_rate", "1e-4x"])
    with pytest.raises(OptionError, match=r"min_learning_rate is 1, above learning_rate, 0.1"):
        typed(["--learning_rate", "0.1", "--min_learning_rate", "1"])


def test_every_scalar_of_the_configs_has_a_kind():
    others = {"anchor_sizes", "anchor_ratios", "strides", "model_settings", "trained"}
    for path in CONFIGS.glob("*.json"):
        content = json.loads(path.read_text())
        names = list(content)
        if "device" in names and "imports" in names:
            names = names[: names.index("device") + 1]
            scalars = [name for name in names if not isinstance(content[name], (dict, list)) and name != "_desc_"]
            assert set(scalars) - set(OPTIONS) - others == set(), path.name
        if "initialize" in content:
            assert "$monai_mgca.options.check_options()" in content["initialize"][:3], path.name
