# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What the bundle's configs run is looked at piece by piece: known modules, few kinds of expressions, nothing else."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "mgca" / "configs"
NAMES = sorted(path.name for path in CONFIGS.glob("*.json"))
MODULES = {"os", "glob", "torch", "torch.distributed", "monai", "monai_mgca"}
BUILTINS = {"len", "min", "max", "round", "int", "next"}
# of os: to look, never to change or to run
OS = {"os.cpu_count", "os.path.dirname", "os.path.isfile", "os.environ"}
# of torch: nothing that reads or writes files, or compiles
TORCH = re.compile(
    r"torch\.(device|Generator|uint8|float\d+|channels_last(_3d)?|contiguous_format|optim\.\w+|nn\.\w+|inf)"
    r"|torch\.cuda\.(is_available|set_device)|dist\.(is_initialized|init_process_group|get_rank)"
)
# methods of what another line of the config made
METHODS = {"run", "to", "get", "parameters", "image_embedder", "startswith", "manual_seed"}
NODES = (
    *(ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Store, ast.Attribute, ast.Call, ast.keyword, ast.Subscript),
    *(ast.Slice, ast.List, ast.Tuple, ast.Dict, ast.IfExp, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare, ast.Lambda),
    *(ast.arguments, ast.arg, ast.ListComp, ast.GeneratorExp, ast.comprehension, ast.Starred),
    *(ast.boolop, ast.unaryop, ast.operator, ast.cmpop),
)


def strings_of(node: Any) -> Iterator[tuple[str, str]]:
    """All texts in a config, keys that MONAI evaluates too."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        if isinstance(value, str):
            yield str(key), value
        yield from strings_of(value)


def expressions_of(name: str) -> list[str]:
    return [v[1:] for _, v in strings_of(json.loads((CONFIGS / name).read_text())) if v.startswith("$")]


def dotted(node: ast.AST) -> str:
    """monai_mgca.options.switches; "" for what does not begin with a name."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def allowed(name: str, own: set[str]) -> bool:
    """Whether an expression may use a name: of a known module, of the config (REF) or of itself (own)."""
    root = name.split(".")[0]
    if root in own or root == "REF":
        return True
    if root == "os":
        return name in OS
    if root in ("torch", "dist"):
        return bool(TORCH.fullmatch(name))
    return root in {"monai", "monai_mgca", *BUILTINS}


def problems_of(expression: str) -> list[str]:
    if expression.startswith(("import ", "from ")):
        body = ast.parse(expression).body
        names = {alias.name for node in body for alias in getattr(node, "names", [])}
        ours = [name for name in names if name in MODULES or name.startswith("monai_mgca.")]
        return [] if len(body) == 1 and isinstance(body[0], ast.Import) and len(ours) == len(names) else [expression]
    tree = ast.parse(re.sub(r"@[\w#]+", "REF", expression), mode="eval")
    nodes = list(ast.walk(tree))
    own = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    found = [type(node).__name__ for node in nodes if not isinstance(node, NODES)]
    found += [node.attr for node in nodes if isinstance(node, ast.Attribute) and node.attr.startswith("_")]
    for node in nodes:
        if isinstance(node, (ast.Name, ast.Attribute)) and id(node) not in inner:
            name = dotted(node)
            if name and not allowed(name, own):
                found.append(name)
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            of_value = not name or name.split(".")[0] in own | {"REF"}
            if of_value and getattr(node.func, "attr", None) not in METHODS:
                found.append(ast.unparse(node.func))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_expression_is_of_known_modules(name):
    found = {expression: problems_of(expression) for expression in expressions_of(name)}
    assert {expression: problems for expression, problems in found.items() if problems} == {}


@pytest.mark.parametrize("name", NAMES)
def test_every_target_is_of_known_packages(name):
    targets = [value for key, value in strings_of(json.loads((CONFIGS / name).read_text())) if key == "_target_"]
    assert {target for target in targets if not target.startswith(("monai.", "monai_mgca."))} <= {
        *("torch.optim.AdamW", "torch.optim.lr_scheduler.SequentialLR", "torch.optim.lr_scheduler.LinearLR"),
        *("torch.optim.lr_scheduler.CosineAnnealingLR", "torch.nn.parallel.DistributedDataParallel"),
        *("torch.utils.tensorboard.SummaryWriter", "torch.distributed.optim.ZeroRedundancyOptimizer"),
        *("ignite.metrics.Average", "ignite.handlers.ProgressBar"),
    }


def test_there_are_not_more_and_more_of_them():
    """A plain value or a "_target_" is better; whoever needs another expression raises the number here."""
    found = {expression for name in NAMES for expression in expressions_of(name)}
    assert len(found) <= 345


@pytest.mark.parametrize(
    "expression",
    [
        "import subprocess",
        "import os, sys",
        "from os import system",
        "import pickle",
        "import os; os.remove('a')",
        "os.system('ls')",
        "os.remove(@output_dir)",
        "open('a')",
        "eval('1')",
        "__import__('os')",
        "torch.load('a')",
        "torch.hub.load('a', 'b')",
        "torch.serialization.load('a')",
        "().__class__.__bases__",
        "@network.__class__",
        "(lambda d: d.unlink())(@output_dir)",
        "@network.save('a')",
        "[x for x in (y := 1,)]",
        "getattr(os, 'system')('ls')",
        "subprocess.run('ls')",
        "numpy.load('a')",
        "f'{@network}'",
    ],
)
def test_others_would_be_seen(expression):
    assert problems_of(expression)
