"""The two encoders of a model as ONNX graphs, by torch's exporter based on `torch.export`.

The older exporter, based on TorchScript, is deprecated and cannot convert the pooling of the built-in tower (a 3 x 3
grid of a map whose side is not a multiple of 3).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from swclip.errors import ConfigError
from swclip.models.embed import evaluating
from swclip.models.location_text import Words, prompt_fields

if TYPE_CHECKING:
    from swclip.models.locator_model import LocatorModel

OPSET = 18
"""Smallest supported version: it introduced `BitwiseXor`, which hashes grid nodes. Needs onnxruntime 1.14."""

_PROTOBUF_BYTES = 1 << 30
"""Larger weights are written to a separate file, because a protobuf message is limited to 2 GiB."""

_NOISY_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")


@dataclass(frozen=True)
class Signature:
    """Input and output of a graph: float arrays with a dynamic first dimension.

    Attributes:
        file: File name in the folder.
        input: Name of the input.
        output: Name of the output.
    """

    file: str
    input: str
    output: str


IMAGE = Signature("image.onnx", "pixels", "image_embedding")
LOCATION = Signature("location.onnx", "positions_deg", "location_embedding")


class ImageSide(nn.Module):
    """Encoder of preprocessed photographs to unit vectors: tower, pooling and head."""

    def __init__(self, model: LocatorModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Encode (B, 3, H, W) pixels as (B, D)."""
        return self.model.encode_pixels(pixels)


class LocationSide(nn.Module):
    """Encoder of positions to unit vectors, with fixed words of the prompt."""

    def __init__(self, model: LocatorModel, words: Words) -> None:
        super().__init__()
        self.location, self.words = model.location, dict(words)

    def forward(self, positions_deg: Float64[Tensor, "b 2"]) -> Float[Tensor, "b d"]:
        """Encode (B, 2) latitude, longitude in degrees (float64) as (B, D)."""
        return self.location.encode_shared(positions_deg, self.words)


def check_location(model: LocatorModel, words: Mapping[str, str]) -> None:
    """Check that the location encoder can be converted.

    Raises:
        ConfigError: The encoder needs a lookup that ONNX does not support, or the prompt has no field for a word.
    """
    form = model.location.config.form
    if form in ("cells", "template"):
        reason = {
            "cells": "it looks up the H3 cell of each position, which ONNX does not support",
            "template": "it writes the digits of each position into a text, and ONNX has no tokenizer",
        }[form]
        raise ConfigError(
            f"the location encoder of form {form!r} cannot be converted to ONNX: {reason}. Omit --location and export "
            "the candidates' embeddings instead: swclip export GALLERY --embeddings float32 --out FILE.safetensors"
        )
    fields = prompt_fields(model.location.config.prompt) if model.location.text is not None else []
    for word in words:
        if word not in fields:
            listed = ", ".join(fields) or "no field"
            raise ConfigError(f"--word {word}=...: the model's prompt has {listed} besides the location; omit it.")


def write_image(model: LocatorModel, path: Path, opset: int = OPSET, shape_px: tuple[int, int] | None = None) -> None:
    """Write the image encoder: `pixels` (B, 3, H, W) float32 to `image_embedding` (B, D) float32.

    Args:
        model: The model.
        path: The file.
        opset: Version of the ONNX operators.
        shape_px: Height and width of the input, which a graph fixes; needed for a model of whole pictures.

    Raises:
        ConfigError: The exporter cannot convert the encoder; with its reason.
    """
    high, wide = shape_px or model.single_tower("an ONNX graph")[1].shape_px or (0, 0)
    _write(ImageSide(model), model, torch.zeros(2, 3, high, wide), path, IMAGE, opset)


def write_location(model: LocatorModel, path: Path, words: Words, opset: int = OPSET) -> None:
    """Write the location encoder: `positions_deg` (B, 2) float64 to `location_embedding` (B, D) float32.

    Args:
        model: The model.
        path: The file.
        words: Values of the prompt's fields, the same for all positions; fields without a value are omitted.
        opset: Version of the ONNX operators.

    Raises:
        ConfigError: The form is not supported, or the exporter cannot convert the encoder.
    """
    check_location(model, {name: word for name, word in words.items() if word is not None})
    example = torch.tensor([[51.5, -0.1], [53.8, -1.5]], dtype=torch.float64)
    _write(LocationSide(model, words), model, example, path, LOCATION, opset)


def _write(side: nn.Module, model: LocatorModel, example: Tensor, path: Path, signature: Signature, opset: int) -> None:
    if opset < OPSET:
        raise ConfigError(f"--opset {opset}: the graphs need {OPSET} or more.")
    with evaluating(model), _quiet():
        try:
            traced = torch.export.export(
                side.eval(),
                (example.to(model.device),),
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                strict=False,
            )
            program: Any = torch.onnx.export(
                traced,
                dynamo=True,
                input_names=[signature.input],
                output_names=[signature.output],
                opset_version=opset,
                verbose=False,
            )
        except (RuntimeError, ValueError, TypeError, NotImplementedError, torch._dynamo.exc.TorchDynamoException) as e:
            reason = " ".join(str(e).split())[:300]
            raise ConfigError(f"{signature.file}: torch cannot convert this model to ONNX ({reason}).") from e
    graph = program.model
    program.rename_axes({graph.graph.inputs[0].shape[0]: "batch"})
    # The metadata of nodes contain local source paths and are as large as the graph.
    for node in graph.graph.all_nodes():
        node.metadata_props.clear()
    graph.metadata_props.update({"swclip_fingerprint": model.fingerprint})
    weights = sum(value.const_value.nbytes for value in graph.graph.initializers.values())
    program.save(path, external_data=weights > _PROTOBUF_BYTES)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's messages about missing torchvision and its internal deprecations."""
    loggers = [logging.getLogger(name) for name in _NOISY_LOGGERS]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
