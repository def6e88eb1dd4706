# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""No line of this repository loads pickled objects, runs text, or reads XML, YAML or the network in an unsafe way."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("monai_mgca", "benchmarks", "docs", "tests", "bundles")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")) + [ROOT / "setup.py"]  # noqa: RUF005
# modules whose readers run or trust what they read, and those that must not be needed
IMPORTS = {
    *("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle", "pandas"),
    *("xml.dom", "xml.sax", "xml.dom.minidom", "lxml", "yaml", "ruamel", "imp", "code", "telnetlib", "ftplib"),
    *("urllib.request", "http.client", "pickletools", "xmlrpc", "h5py", "onnx", "torch.hub", "torch.package"),
    *("torch.load", "torch.jit.load", "os.system", "os.popen", "numpy.load"),  # by a name of its own
}
# calls that run text or make names that another can take
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "tempfile.mktemp", "input"}
CALLS |= {"subprocess.getoutput", "subprocess.getstatusoutput", "torch.hub.load"}
# the first takes a pickle's instructions apart and runs none; the others are tests: of what goes to a DataLoader's
# processes, of the docs' examples, of what tests give to `python -c`, of a config's imports, of our own wheel, and of
# payloads which must not run
ALLOWED = {
    ("monai_mgca/weights/weight_file.py", "pickletools"),
    ("tests/test_requirements.py", "yaml"),  # safe_load, of our own workflow
    ("tests/weights/test_finetune.py", "pickle"),
    ("tests/transforms/test_chain.py", "pickle"),
    ("tests/transforms/test_tokenize.py", "pickle"),
    ("tests/test_docs.py", "exec"),
    ("tests/test_docs.py", "compile"),
    ("tests/apps/test_load_model.py", "exec"),  # of README
    ("tests/apps/test_load_model.py", "compile"),
    ("tests/bundle/test_bundle_configs.py", "exec"),
    ("tests/processes/fork_server.py", "exec"),
    ("tests/processes/fork_server.py", "compile"),
    ("tests/test_packaging.py", "file.extractall"),
    ("tests/security/test_checkpoints.py", "pickle"),
    ("tests/security/test_checkpoints.py", "torch.load"),
}
TRANSFORMERS = ("AutoConfig", "AutoTokenizer", "AutoModel")


def name_of(node: ast.AST) -> str:
    """The dotted name that is called, with the usual short names of modules spelled out."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    parts.append({"np": "numpy"}.get(node.id, node.id) if isinstance(node, ast.Name) else "?")
    return ".".join(reversed(parts))


def imports_of(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and name_of(node.func).split(".")[-1] in ("optional_import", "importorskip"):
            found += [value.value for value in node.args[:1] if isinstance(value, ast.Constant)]
    return found


def call_problem(node: ast.Call) -> str | None:
    """The name of a call that is refused."""
    name = name_of(node.func)
    values = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
    last = name.split(".")[-1]
    by_code = last == "from_pretrained" and any(auto in name for auto in TRANSFORMERS)
    bad = (
        name in CALLS,
        last in ("extractall", "unsafe_load"),
        name == "torch.load" and "weights_only" not in values,
        values.get("weights_only", True) is not True,
        values.get("allow_pickle", False) is not False,
        values.get("trust_remote_code", None if by_code else False) is not False,
        values.get("shell", False) is not False,
        values.get("verify", True) is False,
    )
    return name if any(bad) else None


def problems_of(path: str, tree: ast.AST) -> list[str]:
    names = imports_of(tree)
    found = [name for name in names if any(name == bad or name.startswith(f"{bad}.") for bad in IMPORTS)]
    found += [name for name in names if name.split(".")[-1] in ("pickle_hashing", "pickle_operations")]
    found += filter(None, (call_problem(node) for node in ast.walk(tree) if isinstance(node, ast.Call)))
    return [problem for problem in found if (path, problem) not in ALLOWED]


def test_no_file_has_them():
    problems = {}
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        if found := problems_of(name, ast.parse(path.read_text(encoding="utf-8"))):
            problems[name] = found
    assert problems == {}
    assert len(FILES) > 300


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import cloudpickle as c",
        "from monai.data.utils import pickle_hashing",
        "joblib, _ = optional_import('joblib')",
        "pd, _ = optional_import('pandas')",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "from torch import load",
        "torch.hub.load(repository, 'model')",
        "np.load(path, allow_pickle=True)",
        "PersistentDataset(data, t, weights_only=False)",
        "import yaml",
        "from xml.dom import minidom",
        "eval(text)",
        "exec(text)",
        "subprocess.run('ls', shell=True)",
        "tempfile.mktemp()",
        "os.system('ls')",
        "AutoTokenizer.from_pretrained(folder)",
        "AutoConfig.from_pretrained(folder, trust_remote_code=True)",
        "requests.get(url, verify=False)",
        "archive.extractall(folder)",
    ],
)
def test_they_would_be_seen(source):
    assert problems_of("x.py", ast.parse(source))


def test_what_is_safe_is_let_through():
    source = "torch.load(p, weights_only=True); np.load(p); module.eval(); re.compile('a'); subprocess.run(['ls'])"
    assert problems_of("x.py", ast.parse(source)) == []


def test_only_the_refusing_parser_reads_xml():
    readers = [
        path.name
        for path in sorted((ROOT / "monai_mgca").rglob("*.py"))
        if any(name.startswith("xml") for name in imports_of(ast.parse(path.read_text(encoding="utf-8"))))
    ]
    assert readers == ["plain_xml.py"]


def test_only_the_label_servers_client_reaches_the_network_by_itself():
    """Beside it hub names reach the hub, by transformers and huggingface_hub, and can be local folders."""
    network = (
        "requests",
        "socket",
        "urllib",
        "http",
        "aiohttp",
        "httpx",
        "dicomweb_client",
        "asyncio",
        "huggingface_hub",
    )
    found = {
        path.relative_to(ROOT / "monai_mgca").as_posix()
        for path in (ROOT / "monai_mgca").rglob("*.py")
        if any(name.split(".")[0] in network for name in imports_of(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert found == {
        "apps/card/machine_card.py",  # huggingface_hub forms the text; nothing is sent
        "apps/load_model.py",
        "label/store/pacs_client.py",
        "weights/network_weights.py",
    }


def test_what_the_page_on_security_names_is_there():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    folder = Path()
    names = re.findall(r"`((?:tests/[\w/]*)?test_\w+\.py)`", text)
    assert len(names) > 15
    for name in names:  # a name without folder is in that of the name before it
        folder = (ROOT / name).parent if "/" in name else folder
        assert (folder / Path(name).name).is_file(), name
