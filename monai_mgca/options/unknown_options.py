# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Options that no config reads, and what was meant by them."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from pydoc import locate
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS

from monai_mgca.options.running_config import RunningConfig
from monai_mgca.utils.errors import OptionError

__all__ = ["refuse_unknown"]

logger = logging.getLogger(__name__)

# what the same options are called elsewhere, where the names are not alike
_ELSEWHERE = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "bs": "batch_size",
    "data": "dataset_dir",
    "workers": "num_workers",
    "max_epochs": "epochs",
    "num_epochs": "epochs",
    "backbone": "encoder",
    "model": "image_encoder",
    "weights": "pretrained_path",
    "checkpoint": "pretrained_path",
    "ckpt_path": "pretrained_path",
}
_TRACKERS: dict[str, Any] = DEFAULT_EXP_MGMT_SETTINGS
_OF_TRACKING = {name for settings in _TRACKERS.values() for name in settings["configs"]}
_SEPARATOR = "::"


def refuse_unknown(config: RunningConfig) -> None:
    """Refuse options that no part of a configuration reads, as misspelled ones: MONAI adds every key to it.

    Args:
        config: about to be run.

    Raises:
        OptionError: naming each, and what was probably meant.
    """
    run = config.parser.get(config.workflow.run_id)
    is_component = isinstance(run, Mapping) and "_target_" in run
    if not is_component and not isinstance(run, list) and not str(run).startswith("$"):
        raise OptionError(
            f"There is nothing to run under '{config.workflow.run_id}' in the config. Options begin with two hyphens, "
            "as in --epochs 3."
        )
    references, disk = config.references(), config.on_disk()
    candidates = config.given if config.files is not None else dict(_leaves(config.content))
    unread = [id for id in candidates if not _is_read(id, config, references)]
    problems = [_problem(id, config, references) for id in unread if not _is_known(id, config, disk)]
    problems += filter(None, (_no_argument(id, config, disk) for id in config.given))
    if problems:
        known = "docs/config.md lists the options of every config; nothing was started."
        raise OptionError(f"Unknown options: {'; '.join(problems)}. {known}")
    for id in unread:
        if id in config.given:
            logger.warning(f"--{_typed(id)} has no effect: no part of these configs reads it.")
    for id, meant in _misspelled_in_files(config, references):
        logger.warning(f"{_typed(id)} of the config files has no effect{meant}")


def _leaves(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The ids of all values that are no dictionary of values, components being values."""
    for key, value in content.items():
        if isinstance(value, Mapping) and "_target_" not in value and value:
            yield from _leaves(value, f"{above}{key}{_SEPARATOR}")
        else:
            yield f"{above}{key}", value


def _is_read(id: str, config: RunningConfig, references: set[str]) -> bool:
    """Whether anything refers to a value, to a part of it, or to what it is a part of; or MONAI itself reads it."""
    parts = id.split(_SEPARATOR)
    workflow = config.workflow
    if (
        parts[-1].startswith("_")
        or parts[0] in {"imports", workflow.init_id, workflow.run_id, workflow.final_id} | _OF_TRACKING
    ):
        return True
    above = {_SEPARATOR.join(parts[:count]) for count in range(1, len(parts))}
    if not ({id} | above).isdisjoint(references) or any(found.startswith(f"{id}{_SEPARATOR}") for found in references):
        return True
    # an argument of a component
    return any("_target_" in content for content in map(config.parser.get, above) if isinstance(content, Mapping))


def _is_known(id: str, config: RunningConfig, disk: set[str]) -> bool:
    if id in disk:
        return True
    return config.files is None and isinstance(config.parser[id], (list, Mapping))  # may be what another run_id runs


def _misspelled_in_files(config: RunningConfig, references: set[str]) -> Iterator[tuple[str, str]]:
    """Values of overlays of one's own that nothing reads, though something of nearly their name beside them is read."""
    ours = config.in_folder()
    for id in sorted(_keys(config.content) - ours - config.given.keys()):
        above, separator, last = id.rpartition(_SEPARATOR)
        if (above and above not in ours) or _is_read(id, config, references):
            continue
        beside = config.parser.get(above) if above else config.content
        read = [name for name in beside if _is_read(f"{above}{separator}{name}", config, references)]
        if meant := _meant(last, read):
            yield id, meant


def _keys(content: Mapping[str, Any], above: str = "") -> set[str]:
    """The ids of all keys, but of those of components."""
    found = {f"{above}{key}" for key in content}
    for key, value in content.items():
        if isinstance(value, Mapping) and "_target_" not in value:
            found |= _keys(value, f"{above}{key}{_SEPARATOR}")
    return found


def _no_argument(id: str, config: RunningConfig, disk: set[str]) -> str | None:
    """What is wrong with a new argument of a component that does not have it."""
    above, _, last = id.rpartition(_SEPARATOR)
    component = config.parser.get(above) if above else None
    if id in disk or last.startswith("_") or not isinstance(component, Mapping):
        return None
    target = locate(str(component.get("_target_", "")))
    names = _arguments(target) if callable(target) else None
    if names is None or last in names:
        return None
    return f"--{_typed(id)}: {component['_target_']} has no such argument{_meant(last, names)}"


def _arguments(target: Any) -> set[str] | None:
    """The names of all arguments of a class or function; None where it takes any."""
    names: set[str] = set()
    makers = (
        [vars(base)["__init__"] for base in target.__mro__ if "__init__" in vars(base)]
        if inspect.isclass(target)
        else [target]
    )
    for maker in makers:
        try:
            parameters = inspect.signature(maker).parameters.values()
        except (TypeError, ValueError):  # written in C
            return None
        names |= {p.name for p in parameters}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return names
    return None


def _problem(id: str, config: RunningConfig, references: set[str]) -> str:
    """An unknown option with what was probably meant."""
    above, _, last = id.rpartition(_SEPARATOR)
    if above:
        content = config.parser.get(above)
        return f"--{_typed(id)}{_meant(last, content.keys() - {last} if isinstance(content, Mapping) else ())}"
    if not (meant := _meant(id, references & config.content.keys())):
        for path in sorted(Path(config.workflow.config_root_path).glob("*.json")):
            if id in ConfigParser.load_config_file(str(path)):
                meant = f" (an option of {path.name})"
                break
    return f"--{id}{meant}"


def _meant(name: str, known: Iterable[str]) -> str:
    known = [other for other in known if not other.startswith("_")]
    near = [_ELSEWHERE[name]] if _ELSEWHERE.get(name) in known else get_close_matches(name, known, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _typed(id: str) -> str:
    return id.replace(_SEPARATOR, "#")
