"""An image tower in an ONNX file, run by onnxruntime: any model that somebody exported can be a frozen tower.

The file has one input, a batch of RGB pictures (N, 3, H, W) or (N, H, W, 3) of float32 or float16, and an output of one
vector a picture: the one that is called `embedding`, or the only one of two dimensions. A further output `tokens`
(N, T, C) or (N, C, Y, X) can be pooled beside it. Normalisation and size are those of transformers'
`preprocessor_config.json`: its keys in `metadata_props`, each value as JSON, or that file beside the ONNX file.

The bytes of the file are a buffer of the module. They are therefore saved, copied, fingerprinted and published like the
weights of other towers, and the file itself is not needed any more.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from swclip.errors import ConfigError, PackageError, SwclipError
from swclip.files import read_json
from swclip.imaging.preprocess import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD, Preprocess
from swclip.models.config import TowerConfig

ONNX = "onnx"
"""The `model_type` of an ONNX file, beside those of transformers."""

NORMALISATIONS = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "clip": (CLIP_MEAN, CLIP_STD),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Mean and standard deviation of each channel, for values from 0 to 1."""

_EMBEDDING, _TOKENS = "embedding", "tokens"
_FLOATS: dict[str, np.dtype[Any]] = {"tensor(float)": np.dtype(np.float32), "tensor(float16)": np.dtype(np.float16)}
_EXTERNAL = b"\x0a\x08location\x12"  # the first entry of a tensor whose values are in another file
_LARGEST_BYTES = (1 << 31) - 1  # of a protobuf message
_SIZES = ("size", "crop_size")
_KEYS = (
    *_SIZES, "crop_pct", "do_center_crop", "do_normalize", "image_mean", "image_std", "do_rescale", "rescale_factor",
    "resample", "patch_size",
)  # fmt: skip


class OnnxBackbone(nn.Module):
    """The graph of an ONNX file as a backbone without trainable weights.

    Args:
        name: The path of the file, for messages.
        architecture: The values of `describe` saved with a model, whose `graph` is then loaded with its weights; None
            reads the file.

    Attributes:
        architecture: Input and outputs of the graph, as values for JSON.

    Raises:
        ConfigError: The file cannot be used; with its path and the reason.
        PackageError: onnxruntime is not installed.
    """

    graph: Tensor

    def __init__(self, name: str, architecture: dict[str, Any] | None = None) -> None:
        super().__init__()
        _require_onnxruntime(name)
        self._name, self._session = name, None
        if architecture is None:
            data = _read(Path(name))
            self.register_buffer("graph", torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy()))
            self.architecture = self._described(hashlib.sha256(data).hexdigest())
        else:
            self.register_buffer("graph", torch.zeros(int(architecture["bytes"]), dtype=torch.uint8))
            self.architecture = architecture

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b e"], Tensor | None]:
        """Embeddings (B, E), and tokens (B, T, C) or (B, C, Y, X) if the graph has them, of pixels (B, 3, H, W)."""
        facts = self.architecture
        values = pixels.detach().float().cpu().numpy().astype(_FLOATS[facts["type"]])
        if facts["layout"] == "NHWC":
            values = np.ascontiguousarray(values.transpose(0, 2, 3, 1))
        # Blocks of one shape: a row must not depend on the rows beside it (`swclip.models.blocks`).
        size, outputs = facts["batch"] or 1, [facts["embedding"], *([facts["tokens"]] if facts["tokens"] else [])]
        blocks = []
        for start in range(0, len(values), size):
            block = values[start : start + size]
            filled = np.concatenate([block, np.repeat(block[-1:], size - len(block), axis=0)])
            blocks.append([array[: len(block)] for array in self._run(outputs, filled)])
        embedding, *tokens = (
            torch.from_numpy(np.concatenate(parts).astype(np.float32, copy=False)).to(pixels.device)
            for parts in zip(*blocks, strict=True)
        )
        return embedding.flatten(1), tokens[0] if tokens else None

    def _run(self, outputs: list[str], values: Any) -> list[Any]:
        try:
            results: list[Any] = self._opened().run(outputs, {self.architecture["input"]: values})
        except SwclipError:
            raise
        except Exception as error:  # onnxruntime has an exception for each kind of problem
            raise ConfigError(
                f"image tower {self._name!r}: onnxruntime cannot run it on pictures {values.shape} ({_short(error)})."
            ) from error
        return results

    def _opened(self) -> Any:
        """The session, which is opened when it is first used: after the graph of a saved model was loaded."""
        if self._session is None:
            import onnxruntime

            data = self.graph.cpu().numpy().tobytes()
            if _EXTERNAL in data:  # refused also in a downloaded model, whose graph could name any file
                raise ConfigError(
                    f"image tower {self._name!r}: its weights are in another file; save it as one file of at most "
                    "2 GB: onnx.save(onnx.load(path), path)."
                )
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            options.intra_op_num_threads = torch.get_num_threads()
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leaves cores to decoding
            try:
                self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            except Exception as error:
                raise ConfigError(
                    f"image tower {self._name!r}: onnxruntime {onnxruntime.__version__} cannot load it "
                    f"({_short(error)})."
                ) from error
        return self._session

    def _described(self, sha256: str) -> dict[str, Any]:
        session, name = self._opened(), f"image tower {self._name!r}"
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1:
            raise ConfigError(
                f"{name}: has {len(inputs)} inputs ({', '.join(one.name for one in inputs)}), but a tower has one, the "
                "pixels; export the image encoder alone."
            )
        (pixels,) = inputs
        if pixels.type not in _FLOATS:
            raise ConfigError(
                f"{name}: input {pixels.name!r} is {pixels.type}, but normalised pixels are tensor(float) or "
                "tensor(float16); export it without its own decoding and normalisation."
            )
        shape = [size if isinstance(size, int) and size > 0 else None for size in pixels.shape]
        if len(shape) != 4 or (shape[1] != 3) == (shape[3] != 3):
            raise ConfigError(
                f"{name}: input {pixels.name!r} has the shape {tuple(pixels.shape)}, but pictures are (N, 3, H, W) or "
                "(N, H, W, 3)."
            )
        layout = "NCHW" if shape[1] == 3 else "NHWC"
        sides = shape[2:] if layout == "NCHW" else shape[1:3]
        if (sides[0] is None) != (sides[1] is None):
            raise ConfigError(f"{name}: of the sides {tuple(pixels.shape)} one only is fixed; fix both or neither.")
        named = {output.name: output for output in outputs}
        flat = [output.name for output in outputs if len(output.shape) == 2]
        if _EMBEDDING not in named and len(flat) != 1:
            raise ConfigError(
                f"{name}: has the outputs {', '.join(f'{one.name} {tuple(one.shape)}' for one in outputs)}; name "
                f"the one with a vector for each picture {_EMBEDDING!r}."
            )
        return {
            "model_type": ONNX,
            "sha256": sha256,
            "bytes": int(self.graph.numel()),
            "input": pixels.name,
            "type": pixels.type,
            "layout": layout,
            "batch": shape[0],
            "shape_px": None if sides[0] is None else sides,
            "embedding": _EMBEDDING if _EMBEDDING in named else flat[0],
            "tokens": _TOKENS if _TOKENS in named else None,
            "preprocessor": self._preprocessor(dict(session.get_modelmeta().custom_metadata_map)),
        }

    def _preprocessor(self, metadata: Mapping[str, str]) -> dict[str, Any]:
        """The keys of a `preprocessor_config.json`, of the file beside the graph and of its metadata."""
        path = Path(self._name).with_name("preprocessor_config.json")
        values = read_json(path, "the tower's preprocessing") if path.is_file() else {}
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: is not a table of settings.")
        for key in _KEYS:
            if key in metadata:
                try:
                    values[key] = json.loads(metadata[key])
                except ValueError:
                    raise ConfigError(
                        f"image tower {self._name!r}: {key} = {metadata[key]!r} in its metadata is not JSON, such as "
                        "[0.485, 0.456, 0.406]."
                    ) from None
        return {key: value for key, value in values.items() if key in _KEYS}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}  # a session cannot be copied


def measured(backbone: OnnxBackbone, config: TowerConfig) -> dict[str, Any]:
    """Run the graph on a blank picture: its architecture with the widths of its outputs.

    Args:
        backbone: The graph.
        config: The tower's configuration.

    Raises:
        ConfigError: It cannot be run, or its outputs have other shapes than a tower's.
    """
    facts, preprocess = backbone.architecture, onnx_preprocess(config, backbone.architecture)
    high, wide = preprocess.shape_px or (preprocess.decode_px, preprocess.decode_px)
    embedding, tokens = backbone(torch.zeros(2, 3, high, wide))
    if len(embedding) != 2 or (tokens is not None and (tokens.ndim not in (3, 4) or len(tokens) != 2)):
        shapes = [f"{facts['embedding']} {tuple(embedding.shape)}"]
        shapes += [] if tokens is None else [f"{facts['tokens']} {tuple(tokens.shape)}"]
        raise ConfigError(
            f"image tower {config.tower!r}: gives {' and '.join(shapes)} for two pictures, but a tower gives a vector "
            "for each, and tokens (N, T, C) or (N, C, Y, X)."
        )
    width = 0 if tokens is None else tokens.shape[2 if tokens.ndim == 3 else 1]
    patch = facts["preprocessor"].get("patch_size", 1)
    return {**facts, "hidden_size": width, "embedding_dim": embedding.shape[1], "patch_size": patch}


def onnx_preprocess(config: TowerConfig, architecture: Mapping[str, Any]) -> Preprocess:
    """The preprocessing of an ONNX tower: of the configuration, the metadata of the file, or the file beside it.

    Args:
        config: The tower's configuration.
        architecture: That of its `OnnxBackbone`.

    Raises:
        ConfigError: Size or normalisation is not stated, or the configured size or crop is not that of the graph.
    """
    name, values, shape_px = f"image tower {config.tower!r}", architecture["preprocessor"], architecture["shape_px"]
    mean, std = _normalisation(config, values)
    stated = Preprocess.from_transformers(values) if any(key in values for key in _SIZES) else None
    if shape_px is not None:
        high, wide = shape_px
    elif config.size_px or stated is not None:
        high = wide = config.size_px or (0 if stated is None else stated.size_px)
    else:
        raise ConfigError(f"{name}: takes pictures of any size, and states none; give it with --size-px 224 (size_px).")
    if shape_px is not None and (config.size_px not in (None, high) or config.crop == "whole"):
        raise ConfigError(
            f"{name}: takes pictures of {wide} x {high} pixels only. Leave size_px out and set the crop to 'centre' or "
            "'squash', or export it with free height and width."
        )
    if high != wide or stated is None:
        preprocess = Preprocess(size_px=high, width_px=None if wide == high else wide, resize="squash")
    else:
        preprocess = stated.at_size(high)
    rescale = float(values.get("rescale_factor", 1.0 / 255.0)) if values.get("do_rescale", True) else 1.0
    return dataclasses.replace(preprocess, mean=mean, std=std, rescale=rescale)


def _normalisation(config: TowerConfig, values: Mapping[str, Any]) -> tuple[Any, Any]:
    if config.normalisation != "auto":
        return NORMALISATIONS[config.normalisation]
    if values.get("do_normalize") is False:
        return NORMALISATIONS["none"]
    if "image_mean" in values and "image_std" in values:
        return tuple(values["image_mean"]), tuple(values["image_std"])
    raise ConfigError(
        f"image tower {config.tower!r}: does not state how its pixels are normalised; say what it was trained with: "
        "--normalisation imagenet, clip, or none for pixels from 0 to 1. A preprocessor_config.json beside the file "
        "can state other values (image_mean, image_std)."
    )


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"image tower {str(path)!r}: cannot be read ({error.strerror}); check the path.") from error
    if len(data) > _LARGEST_BYTES:
        raise ConfigError(f"image tower {str(path)!r}: is larger than 2 GB; save a smaller model, or in float16.")
    return data


def _require_onnxruntime(name: str) -> None:
    if find_spec("onnxruntime") is None:
        raise PackageError(f"image tower {name!r} needs onnxruntime; install it with: pip install 'swclip[onnx]'")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
