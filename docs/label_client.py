# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Asks a running MONAI Label server for a mask, boxes and heat maps of a radiograph, and draws what it answers.

python docs/label_client.py --image sample_00037 --text "right pneumothorax" "left effusion" --output answers.png
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import itk
import numpy as np
import requests
from PIL import Image, ImageDraw

from monai_mgca.transforms import LoadRadiograph
from monai_mgca.visualize import draw_heat, draw_overlay

BAR, WIDTH = 18, 320


class Client:
    """The server's answers for one image.

    Args:
        url: of the server.
        image: id of the image.
    """

    def __init__(self, url: str, image: str) -> None:
        self.url, self.image, self.folder = url, image, Path(tempfile.mkdtemp())

    def infer(self, model: str, output: str, **params: Any) -> requests.Response:
        query, data = {"image": self.image, "output": output}, {"params": json.dumps(params)}
        return self._checked(requests.post(f"{self.url}/infer/{model}", params=query, data=data, timeout=600))

    def radiograph(self) -> np.ndarray:
        """(H, W) gray levels as displayed."""
        answer = self._checked(requests.get(f"{self.url}/datastore/image", params={"image": self.image}, timeout=60))
        return np.asarray(LoadRadiograph()(self._keep(answer)))[0]

    def map_of(self, model: str, **params: Any) -> np.ndarray:
        """(H, W) of a model that answers with a mask or a heat map."""
        answer = self.infer(model, "image", result_extension=".nrrd", **params)
        values: np.ndarray = itk.array_from_image(itk.imread(str(self._keep(answer))))
        return values[0]

    def _keep(self, answer: requests.Response) -> Path:
        name = answer.headers["content-disposition"].split("filename=")[1].strip('"')
        path = self.folder / Path(name).name
        path.write_bytes(answer.content)
        return path

    @staticmethod
    def _checked(answer: requests.Response) -> requests.Response:
        if not answer.ok:
            raise SystemExit(f"error: {answer.json()['detail']}")
        return answer


def titled(picture: Image.Image, title: str) -> Image.Image:
    picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)))
    whole = Image.new("RGB", (picture.width, picture.height + BAR), "white")
    whole.paste(picture, (0, BAR))
    ImageDraw.Draw(whole).text((4, 3), title, fill="black")
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--image", required=True, help="id of an image")
    parser.add_argument("--text", nargs="*", default=[], help="phrases to look for")
    parser.add_argument("--output", default="answers.png")
    args = parser.parse_args()
    client = Client(args.url, args.image)
    models = requests.get(f"{args.url}/info/", timeout=60).json()["models"]
    image = client.radiograph()
    pictures = []
    if "segmentation" in models:
        names = models["segmentation"]["labels"]
        values = client.map_of("segmentation")
        masks = np.stack([values == value for value in names.values()])
        pictures.append(titled(draw_overlay(image, masks), f"segmentation: {', '.join(names)}"))
    if "detection" in models:
        found = client.infer("detection", "json").json()
        boxes = [(box, label, "") for box, label in zip(found["box_pixels"], found["label"], strict=True)]
        names = [f"{name} {score:.2f}" for name, score in zip(found["label_name"], found["label_scores"], strict=True)]
        pictures.append(titled(draw_overlay(image, boxes=boxes), f"detection: {', '.join(names)}"))
    for text in args.text:
        heat = client.map_of("grounding", text=text, result="heat")
        pictures.append(titled(draw_heat(image, heat), f"grounding: {text}"))
    sheet = Image.new("RGB", (sum(p.width + 4 for p in pictures), max(p.height for p in pictures)), "white")
    place = 0
    for picture in pictures:
        sheet.paste(picture, (place, 0))
        place += picture.width + 4
    sheet.save(args.output)
    print(f"Written: {args.output}")


if __name__ == "__main__":
    main()
