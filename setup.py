# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "monai_mgca" / "__init__.py").read_text())[1]

# MONAI Label 0.8.5 needs a numpymaxflow that is not there for numpy 2, and Python 3.13 has no older numpy
MONAILABEL = [
    "filelock>=3.20.3",  # follows no link to a lock file
    "monailabel>=0.8.5",
    "numpy<2",
]
# what MONAI Label works with: pydicom-seg 0.4.1 breaks with pydicom 3, and so do newer ones of the others without it
DICOM = [
    "pydicom<3",
    "pynetdicom<2.2",
    "dicomweb-client[gcp]<0.60",
    "pydicom-seg>=0.4.1",
    "jsonschema<4",
    "dcmqi>=1.5.7",
]
# on Python 3.13: what MONAI Label itself requires, less numpymaxflow and sam2, which nothing here imports
BESIDE_MONAILABEL = [
    "monai[fire,gdown,ignite,itk,lmdb,mlflow,nibabel,openslide,pillow,psutil,skimage,tensorboard,torchvision,tqdm]",
    "bcrypt>=4.1.2",
    "cachetools>=5.3.3",
    "expiring-dict>=1.1.0",
    "expiringdict>=1.2.2",
    "fastapi>=0.110.2",
    "filelock>=3.20.3",
    "girder-client>=3.2.3",
    "google-auth>=2.29.0",
    "httpx>=0.27.0",
    "ninja>=1.11.1.1",
    "passlib>=1.7.4",
    "pydantic-settings>=2.2.1",
    "pyjwt>=2.8.0",
    "pynrrd>=1.0.0",
    "python-dotenv>=1.0.1",
    "python-multipart>=0.0.9",
    "requests-toolbelt>=1.0.0",
    "schedule>=1.2.1",
    "scikit-learn>=1.5",
    "shapely>=2.0.4",
    "timeloop>=1.0.2",
    "uvicorn>=0.29.0",
    "watchdog>=4.0.0",
]


def where(requirements: list[str], marker: str) -> list[str]:
    """The requirements, for the Pythons of the marker alone."""
    return [f"{requirement}; {marker}" for requirement in requirements]


LABEL_TESTED = where([*MONAILABEL, *DICOM], "python_version < '3.13'")
LABEL = [*LABEL_TESTED, *where([*DICOM, *BESIDE_MONAILABEL], "python_version >= '3.13'")]
EXPORT = ["onnx>=1.19", "onnxruntime>=1.22", "onnxscript>=0.5"]
FAISS = ["faiss-cpu>=1.8"]
PROBE = ["scikit-learn>=1.5", "matplotlib>=3.8"]
TEST = [
    "hypothesis>=6.100",
    "jsonschema>=3.2",
    "mlflow>=3.1",
    "playwright>=1.40",
    "pycocotools>=2.0.8",
    "pynrrd>=1.0.0",
    "pytest>=8",
    "pytest-xdist>=3.6",
    "ruff>=0.8",
    "setuptools>=70.1",
    "timm>=1.0.15",
]

setup(
    name="monai-mgca",
    version=VERSION,
    description="Image-report pretraining for MONAI by Multi-Granularity Cross-modal Alignment (MGCA)",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    # the bundle goes into the wheel as data of a package of its own, from where it stands in the repository
    packages=[*find_packages(include=["monai_mgca", "monai_mgca.*"]), "monai_mgca._bundle"],
    package_dir={"monai_mgca._bundle": "bundles/mgca"},
    package_data={
        "monai_mgca": ["py.typed"],
        "monai_mgca._bundle": ["LICENSE", "large_files.yml", "configs/*", "docs/*", "models/.gitkeep"],
    },
    install_requires=[
        "monai>=1.6",
        "torch>=2.8",
        "torchvision>=0.23",
        "pytorch-ignite>=0.5.3",
        "transformers>=5.0",
        "safetensors>=0.5",
        "huggingface-hub>=1.3",
        "einops>=0.8",
        "fire>=0.7",
        "itk>=5.4.6",
        "jinja2>=3.1",
        "nibabel>=5.3",
        "numpy>=1.26",
        "pillow>=10.4",
        "pydicom>=2.4",
        "scipy>=1.13",
        "tensorboard>=2.18",
        "tqdm>=4.66",
    ],
    extras_require={
        "label": LABEL,
        "export": EXPORT,
        "faiss": FAISS,
        "probe": PROBE,
        "test": [*LABEL_TESTED, *EXPORT, *FAISS, *PROBE, *TEST],
        "dev": [*LABEL_TESTED, *EXPORT, *FAISS, *PROBE, *TEST, "build>=1.2"],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Intended Audience :: Healthcare Industry",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)
