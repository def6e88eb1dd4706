# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from monai_mgca.__main__ import main
from monai_mgca.utils.arguments import ArgumentParser

DOORS = {
    "retrieve": (["--txt", "effusion"], "--text"),
    "ground": (["--image", "a.png", "--texts", "effusion"], "--text"),
    "card": (["--sample-siz", "3"], "--sample-size"),
    "probe": (["--seed", "3"], "--seeds"),
    "data": (["sample", "--output", "x", "--sizes", "3"], "--size"),
    "weights": (["convert", "a", "b", "--in-channel", "1"], "--in-channels"),
}


@pytest.mark.parametrize("name", DOORS)
def test_wrong_options_of_the_commands_are_named_with_the_nearest(name, capsys):
    arguments, meant = DOORS[name]
    with pytest.raises(SystemExit) as caught:
        main([name, *arguments])
    assert caught.value.code == 2
    assert f"(did you mean {meant}?)" in capsys.readouterr().err


def test_values_and_whole_names():
    parser = ArgumentParser()
    parser.add_argument("--epochs", type=int)
    assert parser.parse_args(["--epochs=3"]).epochs == 3
    for wrong in (["--epoch", "3"], ["--epo=3"], ["3"], ["--nothing-like-it"]):
        with pytest.raises(SystemExit):
            parser.parse_args(wrong)
