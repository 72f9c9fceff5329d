"""Export of a model as a folder of ONNX graphs, verified against the model."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float32, Float64

from swclip.errors import ConfigError, InputError, PackageError
from swclip.export.graph import IMAGE, LOCATION, OPSET, Signature, check_location, write_image, write_location
from swclip.export.parity import TOLERANCE, Parity, check_parity, measure_parity, open_graph
from swclip.files import atomic_folder, check_replaceable, sha256_of_file, write_json
from swclip.imaging.preprocess import Preprocess
from swclip.models.embed import PathLike, device_of, embed_positions, evaluating
from swclip.models.location_text import prompt_fields
from swclip.models.onnx_tower import OnnxBackbone
from swclip.versions import versions

if TYPE_CHECKING:
    from swclip.models.locator_model import LocatorModel


RECORD = "export.json"
EXPORT_VERSION = "1"
_POSITIONS = 256
_BATCH = 8

Report = Callable[[str], None]


def check_output(out: str | os.PathLike[str]) -> None:
    """Raise PackageError if packages are missing, or InputError if the folder contains other files."""
    require_onnx()
    check_replaceable(out, RECORD)


def export_model(
    model: LocatorModel,
    out: str | os.PathLike[str],
    photographs: Sequence[PathLike],
    *,
    location: bool = False,
    words: Mapping[str, str] | None = None,
    opset: int = OPSET,
    report: Report = lambda what: None,
) -> dict[str, Any]:
    """Write a model as ONNX: image.onnx, and everything needed to use it without swclip.

    Args:
        model: The model.
        out: The folder; an existing export is replaced after the new one is complete and verified.
        photographs: Photographs to verify the graphs on; at least one.
        location: Write location.onnx too.
        words: Values of the fields of the location prompt, such as {"city": "Leeds"}; other fields are omitted.
        opset: Version of the ONNX operators, 18 or more.
        report: Called with progress messages.

    Returns:
        The content of export.json, with the content of parity.json under `parity`.

    Raises:
        ConfigError: A part of the model cannot be converted; with the reason. Or the model sees whole pictures, and the
            photographs have different shapes.
        PackageError: A package is missing.
        ArtefactError: A graph differs from the model by more than 1e-4; with the difference.
        InputError: There are no photographs, one cannot be used, or the folder contains other files.
    """
    check_output(out)
    if not photographs:
        raise InputError("an export is verified on photographs, but there are none; name some with --photographs.")
    if location:
        check_location(model, words or {})
    tower, preprocess = model.single_tower("an ONNX graph")
    if isinstance(tower.backbone, OnnxBackbone):
        raise ConfigError(
            f"the image tower {model.config.image.tower!r} is an ONNX file already, to which torch cannot add pooling "
            "and head; use it beside the exported embeddings: swclip export GALLERY --embeddings float32 --out FILE"
        )
    pixels = _pixels(preprocess, photographs)
    shape_px = (pixels.shape[2], pixels.shape[3])
    expected = _embedded(model, pixels)
    graphs: dict[str, Signature] = {IMAGE.file: IMAGE}
    parity: dict[str, Any] = {"tolerance": TOLERANCE, "photographs": len(photographs)}
    with atomic_folder(out, RECORD) as temporary:
        report("writing image.onnx")
        write_image(model, temporary / IMAGE.file, opset, shape_px)
        report("checking image.onnx")
        measured = measure_parity(open_graph(temporary / IMAGE.file, IMAGE), pixels, expected)
        check_parity(measured, IMAGE.file)
        parity[IMAGE.file] = measured.to_dict()
        if location:
            report("writing and checking location.onnx")
            write_location(model, temporary / LOCATION.file, words or {}, opset)
            measured = _location_parity(model, temporary / LOCATION.file, words or {})
            check_parity(measured, LOCATION.file)
            graphs[LOCATION.file] = LOCATION
            parity[LOCATION.file] = measured.to_dict()
        record = _record(model, temporary, graphs, shape_px, opset, _notes(model, location, words or {}))
        write_json(temporary / "preprocess.json", preprocess_document(preprocess, shape_px))
        write_json(temporary / "parity.json", parity)
        (temporary / "README.md").write_text(readme(preprocess, record, parity, shape_px), encoding="utf-8")
        write_json(temporary / RECORD, record)
    return {**record, "parity": parity}


def _pixels(preprocess: Preprocess, photographs: Sequence[PathLike]) -> Float32[np.ndarray, "n 3 h w"]:
    """The preprocessed photographs, which must have one shape, since a graph has."""
    pixels = [preprocess.read(path) for path in photographs]
    for path, array in zip(photographs, pixels, strict=True):
        if array.shape != pixels[0].shape:
            first, other = (f"{one.shape[2]} x {one.shape[1]}" for one in (pixels[0], array))
            raise ConfigError(
                f"{os.fspath(path)}: is {other} pixels preprocessed, and {os.fspath(photographs[0])} is {first}; "
                "the model sees whole pictures, and a graph takes one shape: name photographs of one shape."
            )
    return np.stack(pixels)


def _embedded(model: LocatorModel, pixels: Float32[np.ndarray, "n 3 h w"]) -> Float32[np.ndarray, "n d"]:
    with evaluating(model):
        rows = [
            model.encode_pixels(torch.from_numpy(pixels[start : start + _BATCH]).to(device_of(model)))
            .float()
            .cpu()
            .numpy()
            for start in range(0, len(pixels), _BATCH)
        ]
    return np.concatenate(rows)


def _location_parity(model: LocatorModel, path: Path, words: Mapping[str, str]) -> Parity:
    positions = _positions()
    expected = embed_positions(model, positions, [dict(words)] * len(positions) if words else None)
    return measure_parity(open_graph(path, LOCATION), positions, expected, (1, 7))


def _positions() -> Float64[np.ndarray, "n 2"]:
    """Return positions all over the sphere, including the poles and the antimeridian."""
    rng = np.random.default_rng(0)
    lat = np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, _POSITIONS)))
    edges = [[90.0, 0.0], [-90.0, 0.0], [0.0, 180.0], [0.0, -180.0], [0.0, 0.0]]
    return np.concatenate([np.stack([lat, rng.uniform(-180.0, 180.0, _POSITIONS)], axis=1), edges])


def _notes(model: LocatorModel, location: bool, words: Mapping[str, str]) -> list[str]:
    notes = []
    if model.single_tower("an ONNX graph")[1].shape_px is None:
        notes.append(
            "The model sees pictures of any shape; image.onnx takes those of one shape: export it again for another."
        )
    if model.views is not None:
        notes.append(
            f"Other modalities of the model ({', '.join(model.views.names)}) are not exported: queries are photographs."
        )
    fields = prompt_fields(model.location.config.prompt) if model.location.text is not None else []
    if location and fields:
        named = ", ".join(f"{field}={words[field]!r}" if field in words else f"no {field}" for field in fields)
        notes.append(f"The words of the prompt are fixed in location.onnx: {named}.")
    return notes


def _record(
    model: LocatorModel,
    folder: Path,
    graphs: Mapping[str, Signature],
    shape_px: tuple[int, int],
    opset: int,
    notes: list[str],
) -> dict[str, Any]:
    dim = model.embedding_dim
    shapes = {"pixels": (["B", 3, *shape_px], "float32"), "positions_deg": (["B", 2], "float64")}
    described: dict[str, dict[str, Any]] = {}
    for name, signature in graphs.items():
        shape, kind = shapes[signature.input]
        files = sorted(path for path in folder.iterdir() if path.name in (name, f"{name}.data"))
        described[name] = {
            "input": {"name": signature.input, "shape": shape, "type": kind},
            "output": {"name": signature.output, "shape": ["B", dim], "type": "float32"},
            "bytes": sum(path.stat().st_size for path in files),
            "sha256": {path.name: sha256_of_file(path) for path in files},
        }
    sums = [f"{path} {sha}" for graph in described.values() for path, sha in graph["sha256"].items()]
    return {
        "version": EXPORT_VERSION,
        "fingerprint": model.fingerprint,
        "digest": hashlib.sha256("\n".join(sorted(sums)).encode()).hexdigest(),
        "embedding_dim": dim,
        "opset": opset,
        "graphs": described,
        "notes": notes,
        "made_with": {
            **versions(),
            **{name: importlib.metadata.version(name) for name in ("onnx", "onnxscript", "onnxruntime")},
        },
    }


_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def require_onnx() -> None:
    """Raise PackageError if the packages of the extra `export` are not installed."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise PackageError(
            f"`swclip export` of a model needs {', '.join(missing)}; install them with: pip install 'swclip[export]'"
        )


_SHORTEST_CROP = """\
    short, (width, height) = p["decode_px"], image.size
    wide, high = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    left, top, x, y = (wide - side) // 2, (high - side) // 2, width / wide, height / high
    box = (left * x, top * y, min((left + side) * x, width), min((top + side) * y, height))
    image = image.resize((side, side), Image.Resampling[p["interpolation"].upper()], box)
"""
_SQUASH = """\
    image = image.resize(({wide}, {high}), Image.Resampling[p["interpolation"].upper()])
"""


def preprocess_document(preprocess: Preprocess, shape_px: tuple[int, int] | None = None) -> dict[str, Any]:
    """Return the content of preprocess.json: the settings, and a description of the steps."""
    return {
        "settings": {**preprocess.to_dict(), "decode_px": preprocess.decode_px},
        "digest": preprocess.digest,
        "recipe": recipe(preprocess, shape_px),
    }


def recipe(preprocess: Preprocess, shape_px: tuple[int, int] | None = None) -> list[str]:
    """Describe the steps from a photograph to the input of the graph.

    Args:
        preprocess: The model's preprocessing.
        shape_px: Height and width of the graph's input; that of the preprocessing if None.

    Example:
        >>> print(recipe(Preprocess(size_px=96, resize="squash", interpolation="bilinear"))[2])
        Resize it to 96 x 96 pixels, whatever its shape, with Pillow's bilinear filter.
    """
    p, side = preprocess, preprocess.size_px
    high, wide = shape_px or p.shape_px or (side, side)
    if p.resize == "whole":
        resize = [
            f"Resize it to {wide} x {high} pixels, which keeps its shape, with Pillow's {p.interpolation} filter. The "
            "graph takes this shape only."
        ]
    elif p.resize == "squash":
        resize = [f"Resize it to {wide} x {high} pixels, whatever its shape, with Pillow's {p.interpolation} filter."]
    else:
        resize = [
            f"Scale it so that its shorter side is {p.decode_px} pixels (the longer one rounded down), and crop the "
            f"central {side} x {side} pixels, with Pillow's {p.interpolation} filter. Do both in one call, which "
            "resizes the part of the picture under the square.",
        ]
    return [
        f"Decode the photograph. A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as both sides have at "
        f"least {p.decode_px} pixels (Pillow's draft mode), as swclip does.",
        "Apply its EXIF orientation, and convert it to RGB with 8 bits; put transparent parts on white.",
        *resize,
        f"As float32: x = value * rescale / std - mean / std, by channel, with rescale {p.rescale:.10g}, mean "
        f"{list(p.mean)}, std {list(p.std)}.",
        f"Put the channels first (red, green, blue): an array (B, 3, {high}, {wide}), B photographs.",
    ]


def example(preprocess: Preprocess, shape_px: tuple[int, int] | None = None) -> str:
    """Return a script that embeds photo.jpg with only onnxruntime, NumPy and Pillow; arguments as of `recipe`."""
    high, wide = shape_px or preprocess.shape_px or (0, 0)
    resize = _SHORTEST_CROP if preprocess.resize == "shortest-crop" else _SQUASH.format(wide=wide, high=high)
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


def readme(
    preprocess: Preprocess, record: dict[str, Any], parity: dict[str, Any], shape_px: tuple[int, int] | None = None
) -> str:
    """Return README.md of an export.

    Args:
        preprocess: Preprocessing of the model.
        record: Content of export.json.
        parity: Content of parity.json.
        shape_px: Height and width of the input of image.onnx; that of the preprocessing if None.
    """
    rows = []
    for name, graph in record["graphs"].items():
        difference = parity[name]
        graph_input, graph_output = (
            f"`{end['name']}` ({', '.join(map(str, end['shape']))}) {end['type']}"
            for end in (graph["input"], graph["output"])
        )
        rows.append(
            f"| {name} | {graph_input} | {graph_output} | {graph['bytes'] / 1e6:.1f} MB | "
            f"{difference['largest_difference']:.1e} | {difference['least_cosine']:.6f} |"
        )
    notes = [f"- {note}" for note in record["notes"]]
    steps = [f"{number}. {step}" for number, step in enumerate(recipe(preprocess, shape_px), 1)]
    return "\n".join(
        [
            "# A model of swclip as ONNX",
            "",
            f"Model {record['fingerprint']}. It embeds photographs and positions as unit vectors of one space with "
            f"{record['embedding_dim']} dimensions; their inner product is their similarity.",
            "",
            "| file | input | output | size | largest difference from the model | smallest cosine to the model |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"Verified with onnxruntime {record['made_with']['onnxruntime']} on {parity['photographs']} photographs "
            "(parity.json has the differences by batch size). B is any batch size.",
            *(["", *notes] if notes else []),
            "",
            "## Pixels",
            "",
            "preprocess.json contains the settings.",
            "",
            *steps,
            "",
            "## Example",
            "",
            "In this folder, with `pip install onnxruntime pillow`:",
            "",
            "```python",
            example(preprocess, shape_px).rstrip(),
            "```",
            "",
            "Export the embeddings of a gallery to search in with `swclip export GALLERY --embeddings int8 --out "
            "gallery.safetensors`.",
            "",
        ]
    )
