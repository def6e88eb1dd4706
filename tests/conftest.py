# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # what is no folder is refused at once

# nothing that imports torch or NumPy: how many threads they may use is said below
import pytest
from hypothesis import settings

# what is imported and collected stays: looking through it again and again takes a fifth of that time
gc.disable()

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests" / "processes"))
from commands import ForkServer, Place  # noqa: E402
from forked_workers import Workers  # noqa: E402

if TYPE_CHECKING:
    import numpy as np

# what takes most of the time; the other tests together take less than two minutes
SLOW = (
    "tests/bundle/",
    "tests/engines/",
    "tests/fuzz/test_fuzz.py",
    "tests/label/",
    "tests/test_docs.py",
    "tests/test_imports.py",
    "tests/test_packaging.py",
    "tests/apps/test_probe_command.py",
    "tests/apps/test_card_command.py",
    "tests/apps/test_retrieve_command.py",
    "tests/utils/test_signals.py",
)

# a third of the time for three in a hundred tests: what is done many times, at full size, or for all of a family;
# a test of another file is one of them by its mark
ENDURANCE = (
    "tests/bundle/test_killed_training.py",
    "tests/bundle/test_canary_commands.py",
    "tests/bundle/test_canary.py",
    "tests/bundle/test_library_towers.py",
    "tests/bundle/test_every_tower.py",
    "tests/bundle/test_faults.py",
    "tests/bundle/test_bundle_paper_size.py",
    "tests/bundle/test_official_recipe.py",
    "tests/bundle/test_official_training.py",
    "tests/bundle/test_volume_finetuning.py",
    "tests/fuzz/test_fuzz.py",
    "tests/label/test_library_towers.py",
    "tests/label/test_page.py",
    "tests/label/test_soak.py",
    "tests/label/test_volume_memory.py",
    "tests/label/test_volume_orthanc_server.py",
    "tests/label/test_volume_server.py",
    "tests/label/test_volume_trainers.py",
    "tests/test_gpu_benchmark.py",
)
# begun first, so that no worker ends long after the others
LONGEST = (*ENDURANCE, "tests/bundle/test_finetuning.py", "tests/label/test_server.py", "tests/test_docs.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many processes run the tests, and whether all of them run."""
    words = "processes that run the tests, a file at a time (default: one a core and two more; one for a named file)"
    parser.addoption("--workers", type=int, metavar="N", help=words)
    words = "run what takes long, too: what is killed, fuzzed or broken many times, and networks of full size"
    parser.addoption("--endurance", action="store_true", help=words)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """A process a core, and two more, for they often wait for commands; a file's tests share what they make."""
    option, files = config.option, {argument.split("::")[0] for argument in config.args}
    one = len(files) == 1 and all(file.endswith(".py") for file in files)
    if option.workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        option.workers = 1 if one or option.usepdb or sys.platform != "linux" else min(cores + 2, 6)
    if option.workers > 1:  # before anything is imported that has threads; and a GPU is no fork's
        os.environ |= {"OMP_NUM_THREADS": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}


def pytest_configure(config: pytest.Config) -> None:
    """All workers use one fork server for commands, which gets ready while the tests are collected."""
    if config.option.workers > 1 and not config.option.collectonly:
        place = Place()
        os.environ["SHARED_FORK_SERVER"] = str(place.folder)
        server = ForkServer(str(place.folder))
        server.get_ready()
        config.add_cleanup(server.close)
        config.add_cleanup(place.close)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """In several processes, where there are to be several."""
    config = session.config
    if config.option.workers == 1 or config.option.collectonly or session.testsfailed:
        return None
    config.pluginmanager.getplugin("terminalreporter").showfspath = False  # the files are mixed
    Workers(session, config.option.workers).follow()
    return True


def pytest_collection_finish() -> None:
    """From here on garbage is collected, but not among what is here for all of the session."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is slow, long or of MONAI Label by its place; files with slow tests come first, so that none is last.

    What takes long is left out, unless it is asked for: by its option, or by the name of its file.
    """
    slow, long = set(), []
    named = {(config.invocation_params.dir / argument.split("::")[0]).resolve() for argument in config.args}
    for item in items:
        place = item.path.relative_to(ROOT).as_posix()
        if place.startswith((*SLOW, *ENDURANCE)) or item.get_closest_marker("multiprocess"):
            item.add_marker("slow")
            slow.add(item.path)
        if place in ENDURANCE or item.get_closest_marker("endurance"):
            item.add_marker("endurance")
            if not config.option.endurance and item.path not in named:
                long.append(item)
        if place.startswith("tests/label/"):
            item.add_marker("label")
    longest = {ROOT / place: number for number, place in enumerate(LONGEST)}
    items[:] = [item for item in items if item not in long] if long else items
    items.sort(key=lambda item: (longest.get(item.path, len(longest)), item.path not in slow))
    if long:
        config.hook.pytest_deselected(items=long)


# the same examples in every run; `--hypothesis-profile=full` takes others, and many more
settings.register_profile("default", deadline=None, derandomize=True, max_examples=20)
settings.register_profile("full", deadline=None, max_examples=1000)
settings.load_profile("default")

# a shell without a terminal has SIGINT ignored in what it starts in the background, and so would every training here
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the goldens and the real data; tests that need it skip where it is absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the goldens and real data of ../shared are not here")
    return folder


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    """Runs commands of Python, one or several that know of each other, each in a process of its own within a second."""
    server = ForkServer(os.environ.get("SHARED_FORK_SERVER"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def save_dicom() -> Callable[..., Path]:
    """Writes gray levels (H, W) as a DICOM radiograph: path, values, and further tags by their keywords."""
    pydicom = pytest.importorskip("pydicom")

    def save(path: Path, values: Any, **tags: Any) -> Path:
        meta = pydicom.dataset.FileMetaDataset()
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = pydicom.uid.ComputedRadiographyImageStorage
        meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        data = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        data.is_little_endian, data.is_implicit_VR = True, False
        data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        data.Modality, data.PhotometricInterpretation, data.SamplesPerPixel = "CR", "MONOCHROME2", 1
        data.Rows, data.Columns = values.shape
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
        data.PixelData = values.tobytes() + b"\0" * (values.size % 2)
        for keyword, value in tags.items():
            setattr(data, keyword, value)
        data.save_as(path)
        return path

    return save


@pytest.fixture(autouse=True)
def _logging_state() -> Iterator[None]:
    """A run's log and a bundle's logging.conf change the loggers of the whole process."""
    from monai_mgca.utils.run_log import stop_run_log

    own = ("ignite", "monai", "monai_mgca")
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in own]
    loggers = [logging.getLogger(name) for name in (None, *names)]
    stop_run_log()  # of a run of a fixture that others share
    before = [(logger.level, logger.propagate, logger.disabled, list(logger.handlers)) for logger in loggers]
    yield
    stop_run_log()
    for logger, (level, propagate, disabled, handlers) in zip(loggers, before, strict=True):
        if logger.level != level:
            logger.setLevel(level)  # which forgets what loggers remember of it
        logger.propagate, logger.disabled, logger.handlers[:] = propagate, disabled, handlers


@pytest.fixture(scope="session", autouse=True)
def _classes_of_monai() -> Iterator[None]:
    """Each parser of a config looks through all classes of MONAI: here once for the same modules."""
    from monai.bundle.config_item import ComponentLocator

    find, found = ComponentLocator._find_classes_or_functions, {}

    def find_once(self: Any, names: Any) -> Any:
        names = tuple(names)
        if names not in found:
            found[names] = find(self, names)
        return found[names]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ComponentLocator, "_find_classes_or_functions", find_once)
        yield


@pytest.fixture
def global_state() -> Iterator[None]:
    """A config sets the excepthook, the seeds and the threads' settings for its own process."""
    import torch
    from monai.utils import set_determinism

    hook, paths = sys.excepthook, list(sys.path)
    yield
    sys.excepthook, sys.path[:] = hook, paths
    set_determinism(seed=None)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def heeding_permissions(forks: ForkServer) -> dict[str, Any]:
    """Arguments of ``forks.run`` and ``forks.start`` for a process that may not write where permissions forbid it."""
    code = "import os, sys; sys.exit(77 if os.access(sys.argv[1], os.W_OK) else 0)"
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        if forks.run("-c", code, folder, heed_permissions=True).returncode:
            pytest.skip("permissions do not hold root here")
    return {"heed_permissions": True}


@pytest.fixture
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Path]]:
    """Makes file systems of so many MiB in memory, which only root can."""
    made: list[Path] = []

    def make(size: int) -> Path:
        folder = tmp_path_factory.mktemp("disk")
        mount = shutil.which("mount")
        command = [str(mount), "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(folder)]
        if mount is None or os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("a small file system cannot be mounted here")
        made.append(folder)
        return folder

    yield make
    for folder in made:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def small_files() -> Callable[[], AbstractContextManager[None]]:
    """In its context no file may be larger than 64 KiB: writing fails as on a full disk, but for the reason.

    Not around a whole test, for pytest too writes its lines to what may be a larger file.
    """
    resource = pytest.importorskip("resource", reason="the system has no limit for files")

    @contextmanager
    def limited() -> Iterator[None]:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    return limited


CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# nothing that would reach for the network by itself
QUIET = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync")


@pytest.fixture
def open_page() -> Callable[..., dict[str, Any]]:
    """A function that opens an HTML file from disk in headless Chromium and gives what went on.

    It gives "errors" of the console and the page, the "requests" made, the "widths" of all pictures as they were
    decoded (0: broken), and the "text" one sees; with ``screenshot`` it takes a picture too.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")

    def opened(path: Path, screenshot: Path | None = None, width: int = 1280, height: int = 900) -> dict[str, Any]:
        errors: list[str] = []
        requests: list[str] = []
        with playwright.sync_playwright() as running:
            browser = running.chromium.launch(executable_path=chromium, args=[*QUIET, "--disable-component-update"])
            page = browser.new_page(viewport={"width": width, "height": height})
            page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("request", lambda request: requests.append(request.url))
            page.goto(path.resolve().as_uri())
            widths = page.evaluate("Array.from(document.images, picture => picture.naturalWidth)")
            text = page.inner_text("body")
            if screenshot is not None:
                page.screenshot(path=str(screenshot))
            browser.close()
        return {"errors": errors, "requests": requests, "widths": widths, "text": text}

    return opened


@pytest.fixture(scope="session")
def write_series() -> Callable[..., Path]:
    """A function that writes a CT (left, back, head) in Hounsfield units as a folder of DICOM files.

    The files' names are not in the order of the slices, and the stored values are other than Hounsfield units.
    """
    pydicom = pytest.importorskip("pydicom")

    def write(folder: Path, values: np.ndarray, spacing: Sequence[float], origin: Sequence[float]) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        series, frame = pydicom.uid.generate_uid(), pydicom.uid.generate_uid()
        for k in range(values.shape[2]):
            meta = pydicom.dataset.FileMetaDataset()
            meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
            meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
            meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            path = folder / f"{(389 * k + 3) % 997:03d}_{series[-8:]}.dcm"
            dataset = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
            settings = {
                "SOPClassUID": meta.MediaStorageSOPClassUID,
                "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
                "SeriesInstanceUID": series,
                "StudyInstanceUID": frame,
                "FrameOfReferenceUID": frame,
                "PatientName": "Doe^Jane",
                "PatientID": "patient-canary",
                "Modality": "CT",
                "InstanceNumber": k + 1,
                "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
                "ImagePositionPatient": [origin[0], origin[1], origin[2] + k * spacing[2]],
                "PixelSpacing": [spacing[1], spacing[0]],
                "SliceThickness": spacing[2],
                "Rows": values.shape[1],
                "Columns": values.shape[0],
                "PhotometricInterpretation": "MONOCHROME2",
                "SamplesPerPixel": 1,
                "BitsAllocated": 16,
                "BitsStored": 16,
                "HighBit": 15,
                "PixelRepresentation": 0,
                "RescaleSlope": 1,
                "RescaleIntercept": -1024,
            }
            for name, value in settings.items():
                setattr(dataset, name, [f"{v:.6g}" for v in value] if isinstance(value, list) else value)
            dataset.PixelData = (values[:, :, k].T.astype("i4") + 1024).astype("<u2").tobytes()
            with warnings.catch_warnings():  # pydicom 3 has other names for these, pydicom 2 needs them
                warnings.simplefilter("ignore")
                dataset.is_little_endian, dataset.is_implicit_VR = True, False
                dataset.save_as(path)
        return folder

    return write


@pytest.fixture(scope="session")
def train_tokenizer() -> Callable[..., Any]:
    """Trains a small fast tokenizer: "wordpiece" as BERT's, "bytes" (byte-level BPE) as RoBERTa's, "unigram" as XLM-R.

    Arguments are the kind, the texts and the size; keys are special tokens of other names, None for one that is not.
    """

    def train(kind: str, texts: Sequence[str], size: int = 400, **names: str | None) -> Any:
        import tokenizers
        import transformers
        from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

        brackets = kind == "wordpiece"
        own = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "unk": "[UNK]", "mask": "[MASK]"}
        other = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
        names = {name: token for name, token in {**(own if brackets else other), **names}.items() if token}
        special, unk = list(names.values()), names["unk"]
        quiet = {"vocab_size": size, "special_tokens": special, "show_progress": False}
        if kind == "wordpiece":
            tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token=unk))
            tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
            tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
            trainer = trainers.WordPieceTrainer(**quiet)
        elif kind == "bytes":
            tokenizer = tokenizers.Tokenizer(models.BPE())
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            trainer = trainers.BpeTrainer(**quiet, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
        else:
            tokenizer = tokenizers.Tokenizer(models.Unigram())
            tokenizer.normalizer = normalizers.NFKC()
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
            trainer = trainers.UnigramTrainer(**quiet, unk_token=unk)
        tokenizer.train_from_iterator(texts, trainer)
        first, last = ([names[name]] if name in names else [] for name in ("cls", "sep"))
        if first or last:
            ids = [(token, tokenizer.token_to_id(token)) for token in (*first, *last)]
            parts = [*first, "$A", *last]
            tokenizer.post_processor = processors.TemplateProcessing(single=parts, special_tokens=ids)
        tokens = {f"{name}_token": token for name, token in names.items()}
        return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens)

    return train
