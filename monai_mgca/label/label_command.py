# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Starts MONAI Label's server with our app: ``mgca label --studies FOLDER_OR_URL``."""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from monai_mgca.label.label_settings import MODELS, NAMES, LabelSettings
from monai_mgca.utils import CheckpointError, DataError
from monai_mgca.utils.arguments import ArgumentParser
from monai_mgca.utils.console import say
from monai_mgca.utils.files import replacing

__all__ = ["make_app"]

NOT_INSTALLED = 'MONAI Label is not installed: pip install "monai-mgca[label]"' + (
    " and then pip install --no-deps monailabel, since one of its requirements is not there for this Python."
    if sys.version_info >= (3, 13)
    else "."
)

MAIN = 'from monai_mgca.label.app import MGCAApp\n\n__all__ = ["MGCAApp"]  # MONAI Label\'s server looks for it here\n'


def make_app(settings: LabelSettings) -> Path:
    """Make or renew the folder of an app, which MONAI Label's server runs and writes to.

    Args:
        settings: of the app; its ``app_dir`` is made.

    Returns:
        The folder, to give to ``monailabel start_server --app``.

    Raises:
        DataError: when the folder holds another app.

    Example::

        make_app(LabelSettings(Path("label_app"), Path("bundles/mgca")))
    """
    main = settings.app_dir / "main.py"
    if main.is_file() and main.read_text(encoding="utf-8") != MAIN:
        raise DataError(f"app_dir: {settings.app_dir} holds another app (its main.py differs): name another folder.")
    settings.app_dir.mkdir(parents=True, exist_ok=True)
    settings.save()
    with replacing(main) as temporary:
        temporary.write_text(MAIN, encoding="utf-8")
    return settings.app_dir


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    args = _parser().parse_args(arguments)
    try:
        settings = _settings(args)
        make_app(settings)
    except (DataError, CheckpointError, OSError) as error:
        say(f"error: {error}", file=sys.stderr)
        return 2
    _print_addresses(args, settings)
    if _is_loopback(args.host):
        hosts = dict.fromkeys(("127.0.0.1", "localhost", "[::1]", args.host))
        os.environ.setdefault("MGCA_ALLOWED_HOSTS", ",".join(hosts))
    server = ["start_server", "--app", str(settings.app_dir), "--studies", args.studies]
    sys.argv = ["monailabel", *server, "--host", args.host, "--port", str(args.port)]
    sys.argv += ["--uvicorn_app", "monai_mgca.label.server:app"]
    from monailabel.main import Main

    Main().run()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="mgca label",
        description="Annotate with our models: start MONAI Label's server.",
        examples="mgca label --studies dicom\nmgca label --studies https://pacs.example.org/dicom-web --port 8000",
    )
    words = "folder of radiographs, or of volumes and DICOM series, or address of a DICOMweb server"
    parser.add_argument("--studies", required=True, help=words)
    parser.add_argument("--bundle", help="folder of the bundle (default: where you are)")
    words = "folder of the weights, models/volume for volumes (default: models of the bundle)"
    parser.add_argument("--ckpt-dir", help=words)
    parser.add_argument("--models", default=",".join(MODELS), help="which to serve (default: %(default)s)")
    parser.add_argument("--reports", help="folder of reports <image id>.txt (default: the folder of the studies)")
    parser.add_argument("--app-dir", default="label_app", help="writable folder of the app (default: %(default)s)")
    parser.add_argument("--device", help="cpu or cuda (default: a GPU if there is one)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="(default: %(default)s)")
    return parser


def _settings(args: argparse.Namespace) -> LabelSettings:
    if find_spec("monailabel") is None:
        raise DataError(NOT_INSTALLED)
    is_url = args.studies.startswith(("http://", "https://"))
    if not is_url and not Path(args.studies).is_dir():
        raise DataError(f"studies: there is no folder {args.studies}.")
    if args.bundle is None:
        from monai_mgca.options import bundle_root  # which imports MONAI

        args.bundle = bundle_root()
    names = ("bundle", "models", "reports", "device", "ckpt_dir")
    settings = LabelSettings.load(args.app_dir, {name: getattr(args, name) for name in names})
    if not settings.pretrained.is_file():
        raise DataError(
            f"{settings.pretrained} is not there: pretrain first, python -m monai.bundle run --config_file "
            f"{Path(args.bundle) / 'configs' / 'train.json'}."
        )
    return settings


def _print_addresses(args: argparse.Namespace, settings: LabelSettings) -> None:
    tasks = [name for name in settings.models if name == "grounding" or settings.weights(name)]
    later = [name for name in settings.models if name not in tasks]
    if settings.spatial_dims == 3:
        say(f"Studies: {NAMES[3]}.")
    say(f"Models: {', '.join(tasks)}." + (f" After training: {', '.join(later)}." if later else ""))
    say(f"App folder: {settings.app_dir} (weights trained here: models/, log: logs/app.log)")
    say(f"Address for 3D Slicer's MONAI Label module, and for curl: http://{args.host}:{args.port}", flush=True)
    if not _is_loopback(args.host):
        say(
            f"warning: whoever reaches {args.host} can read all studies and change all labels. Put a proxy with TLS "
            "and authentication before it: docs/monailabel.md, Security.",
            file=sys.stderr,
            flush=True,
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
