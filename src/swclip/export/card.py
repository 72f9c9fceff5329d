"""What an export says of itself: the preprocessing in words, and a page with an example that runs."""

from __future__ import annotations

from typing import Any

from swclip.imaging.preprocess import Preprocess

_SHORTEST_CROP = """\
    short, (width, height) = p["decode_px"], image.size
    wide, high = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    left, top, x, y = (wide - side) // 2, (high - side) // 2, width / wide, height / high
    box = (left * x, top * y, min((left + side) * x, width), min((top + side) * y, height))
    image = image.resize((side, side), Image.Resampling[p["interpolation"].upper()], box)
"""
_SQUASH = """\
    image = image.resize((side, side), Image.Resampling[p["interpolation"].upper()])
"""


def preprocess_document(preprocess: Preprocess) -> dict[str, Any]:
    """preprocess.json: the settings, and what they mean in plain words."""
    return {
        "settings": {**preprocess.to_dict(), "decode_px": preprocess.decode_px},
        "digest": preprocess.digest,
        "recipe": recipe(preprocess),
    }


def recipe(preprocess: Preprocess) -> list[str]:
    """The steps from a file to the numbers that the graph takes.

    Example:
        >>> print(recipe(Preprocess(size_px=96, resize="squash", interpolation="bilinear"))[2])
        Resize it to 96 x 96 pixels, whatever its shape, with Pillow's bilinear filter.
    """
    p, side = preprocess, preprocess.size_px
    if p.resize == "squash":
        resize = [f"Resize it to {side} x {side} pixels, whatever its shape, with Pillow's {p.interpolation} filter."]
    else:
        resize = [
            f"Scale it so that its shorter side is {p.decode_px} pixels (the longer one rounded down), and cut the "
            f"middle {side} x {side} pixels out; with Pillow's {p.interpolation} filter. Both are one call: resize "
            "the part of the picture that the square covers.",
        ]
    return [
        f"Decode the photograph. A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as both sides stay at "
        f"least {p.decode_px} pixels (Pillow's draft mode); swclip does.",
        "Turn it upright by its EXIF orientation, and make it RGB with 8 bits; lay transparent parts over white.",
        *resize,
        f"As float32: x = value * rescale / std - mean / std, by channel, with rescale {p.rescale:.10g}, mean "
        f"{list(p.mean)}, std {list(p.std)}.",
        f"Put the channels first (red, green, blue): an array (B, 3, {side}, {side}), B photographs.",
    ]


def example(preprocess: Preprocess) -> str:
    """A script that embeds photo.jpg with onnxruntime, NumPy and Pillow alone."""
    resize = _SQUASH if preprocess.resize == "squash" else _SHORTEST_CROP
    return f"""\
import json, pathlib
import numpy as np, onnxruntime
from PIL import Image, ImageOps

p = json.loads(pathlib.Path("preprocess.json").read_text())["settings"]
mean, std, side = np.array(p["mean"]), np.array(p["std"]), p["size_px"]

def pixels(path):
    image = Image.open(path)
    image.draft(None, (p["decode_px"], p["decode_px"]))
    image = ImageOps.exif_transpose(image).convert("RGB")
{resize}\
    values = np.asarray(image, np.float32) * (p["rescale"] / std).astype(np.float32) - (mean / std).astype(np.float32)
    return values.transpose(2, 0, 1)

session = onnxruntime.InferenceSession("image.onnx", providers=["CPUExecutionProvider"])
embedding = session.run(None, {{"pixels": np.stack([pixels("photo.jpg")])}})[0]  # (1, D), of length 1
print(embedding[0, :4])
"""


def readme(preprocess: Preprocess, record: dict[str, Any], parity: dict[str, Any]) -> str:
    """README.md of an export.

    Args:
        preprocess: The model's.
        record: export.json.
        parity: parity.json.
    """
    rows = []
    for name, graph in record["graphs"].items():
        own = parity[name]
        takes, gives = (
            f"`{end['name']}` ({', '.join(map(str, end['shape']))}) {end['type']}"
            for end in (graph["input"], graph["output"])
        )
        rows.append(
            f"| {name} | {takes} | {gives} | {graph['bytes'] / 1e6:.1f} MB | {own['largest_difference']:.1e} | "
            f"{own['least_cosine']:.6f} |"
        )
    notes = [f"- {note}" for note in record["notes"]]
    steps = [f"{number}. {step}" for number, step in enumerate(recipe(preprocess), 1)]
    return "\n".join(
        [
            "# A model of swclip as ONNX",
            "",
            f"Model {record['fingerprint']}. Photographs and positions become vectors of length 1 in one space of "
            f"{record['embedding_dim']} dimensions; their inner product says how well they go together.",
            "",
            "| file | takes | gives | size | largest difference from the model | least cosine to it |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"Checked with onnxruntime {record['made_with']['onnxruntime']} on {parity['photographs']} photographs "
            "(parity.json has it by batch size). B is free.",
            *(["", *notes] if notes else []),
            "",
            "## Pixels",
            "",
            "preprocess.json has the settings.",
            "",
            *steps,
            "",
            "## Example",
            "",
            "In this folder, with `pip install onnxruntime pillow`:",
            "",
            "```python",
            example(preprocess).rstrip(),
            "```",
            "",
            "Embeddings of a gallery's candidates, to search in: `swclip export GALLERY --embeddings int8 --out "
            "gallery.safetensors`.",
            "",
        ]
    )
