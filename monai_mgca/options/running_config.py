# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The config and the options that the running command was given."""

from __future__ import annotations

import ast
import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigExpression, ConfigItem, ConfigParser, ConfigWorkflow, create_workflow

__all__ = ["RunningConfig", "bundle_root", "running_config"]

# what comes before a workflow's options
_OF_THE_WORKFLOW = set(inspect.signature(ConfigWorkflow.__init__).parameters) | {"workflow_name"}
_SEPARATOR = "::"
# what Fire takes for the name of an option
_FLAG = re.compile("--.|-[a-zA-Z]")


class RunningConfig:
    """The configuration that a workflow is about to run, and which part of it somebody gave beside the files.

    Args:
        workflow: of MONAI.
        files: of the configuration; None where they are not known.
        given: the options by their ids, with None where MONAI has dropped one that was None.
    """

    def __init__(self, workflow: ConfigWorkflow, files: Sequence[str] | None, given: Mapping[str, Any]) -> None:
        self.workflow, self.files = workflow, files
        self.parser: ConfigParser = workflow.parser
        self.given = {_normalized(name): value for name, value in given.items() if name not in _OF_THE_WORKFLOW}

    @property
    def content(self) -> dict[str, Any]:
        """All keys but the metadata's."""
        return {key: value for key, value in self.parser.get().items() if key != ConfigParser.meta_key}

    def on_disk(self) -> set[str]:
        """The ids of all that the files have; of unknown files, of all that are in the folder of the first."""
        if self.files is None:
            return self.in_folder()
        return set(_ids(ConfigParser.load_config_files(self.files)))

    def in_folder(self) -> set[str]:
        """The ids of all that the configurations in the folder of the first one have."""
        paths = sorted(Path(self.workflow.config_root_path).glob("*.json"))
        contents = [ConfigParser.load_config_file(str(path)) for path in paths if not path.name.startswith("metadata")]
        return {id for content in contents for id in _ids(content)}

    def references(self) -> set[str]:
        """The ids that any part of the configuration refers to."""
        resolver = type(self.parser.ref_resolver)
        return {id for text in _texts(self.content) for id in resolver.match_refs_pattern(text)}

    def set(self, name: str, value: Any) -> None:
        """Give a top-level option, which nothing has read yet, another value."""
        item = ConfigItem(value, name)
        if isinstance(value, str) and "#" in value and not value.startswith("$"):
            # MONAI would take the sign for a separator of ids, and write another one
            escaped = repr(value).replace("#", "\\x23").replace("@", "\\x40")
            item = ConfigExpression(f"${escaped}", name, self.parser.globals)
        self.parser.get()[name] = item.get_config()
        self.parser.ref_resolver.items[name] = item


def running_config() -> RunningConfig | None:
    """The configuration on behalf of which this is called: MONAI hands none over to its expressions.

    Returns:
        None where no workflow is being initialized.
    """
    workflow, frame = None, inspect.currentframe()
    while frame is not None:
        if workflow is None and isinstance(frame.f_locals.get("self"), ConfigWorkflow):
            workflow = frame.f_locals["self"]
        if workflow is not None and frame.f_code is create_workflow.__code__:
            found, dropped = frame.f_locals.get("_args") or {}, frame.f_locals.get("kwargs") or {}
            files = frame.f_locals["config_file"]
            given = {**found, **{name: value for name, value in dropped.items() if value is None}}
            return RunningConfig(workflow, [files] if isinstance(files, str) else files, given)
        frame = frame.f_back
    return None if workflow is None else RunningConfig(workflow, None, {})


def bundle_root() -> str:
    """The bundle's folder: that of the running config, wherever it is run; else from the repository's or its own.

    In a config: ``"bundle_root": "$monai_mgca.options.bundle_root()"``.
    """
    config = running_config()
    own = [] if config is None else [os.path.normpath(os.path.join(config.workflow.config_root_path, ".."))]
    places = (*own, ".", "bundles/mgca")
    return next((place for place in places if os.path.isfile(f"{place}/configs/metadata.json")), ".")


def typed_options() -> dict[str, str]:
    """The options of MONAI's command line as they were typed; none in other programs.

    Fire, which reads the line, makes values of Python of them: 2024_01_15 becomes a number and run#3 "run".
    """
    program = Path(sys.argv[0])
    if (program.parent.name, program.name) != ("bundle", "__main__.py") and program.name != "monai.bundle":
        return {}
    typed, arguments = {}, sys.argv[1:]
    for place, argument in enumerate(arguments):
        if not _FLAG.match(argument):
            continue
        name, equals, value = argument.lstrip("-").partition("=")
        if not equals and place + 1 < len(arguments):
            value = arguments[place + 1]
        if equals or not _FLAG.match(value):
            typed[_normalized(name.replace("-", "_"))] = value
    return typed


def is_quoted(text: str) -> bool:
    """Whether a text of the command line is a string of Python, whose content is meant."""
    try:
        return isinstance(ast.literal_eval(text), str)
    except (SyntaxError, ValueError):
        return False


def _normalized(id: str) -> str:
    return id.replace("#", _SEPARATOR).lstrip("+")


def _ids(value: Any, above: str = "") -> Iterator[str]:
    """The ids of all parts of a configuration."""
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        id = _normalized(f"{above}{key}")
        yield id
        yield from _ids(item, f"{id}{_SEPARATOR}")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value
