"""The two sides of a model as ONNX graphs, by torch's own exporter.

That is the one on `torch.export`. The older one, on TorchScript, is deprecated, and cannot write the pooling of the
built-in tower (a 3 x 3 grid of a map whose side 3 does not divide).
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
"""The least: `BitwiseXor`, which hashes grid nodes, came with it. onnxruntime reads it since 1.14."""

_PROTOBUF_BYTES = 1 << 30
"""Weights beyond this go into a file beside the graph: one protobuf message holds at most 2 GiB."""

_CHATTY = ("torch.onnx", "onnxscript", "onnx_ir")


@dataclass(frozen=True)
class Signature:
    """What a graph takes and gives: float arrays whose first dimension is free.

    Attributes:
        file: Its name in the folder.
        input: Name of its only input.
        output: Name of its only output.
    """

    file: str
    input: str
    output: str


IMAGE = Signature("image.onnx", "pixels", "image_embedding")
LOCATION = Signature("location.onnx", "positions_deg", "location_embedding")


class ImageSide(nn.Module):
    """Photographs as the model's preprocessing makes them, to unit vectors: tower, pooling and head."""

    def __init__(self, model: LocatorModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """(B, D) of (B, 3, H, W)."""
        return self.model.encode_pixels(pixels)


class LocationSide(nn.Module):
    """Positions to unit vectors, the words of the prompt fixed."""

    def __init__(self, model: LocatorModel, words: Words) -> None:
        super().__init__()
        self.location, self.words = model.location, dict(words)

    def forward(self, positions_deg: Float64[Tensor, "b 2"]) -> Float[Tensor, "b d"]:
        """(B, D) of (B, 2) latitude, longitude in degrees, float64."""
        return self.location.encode_shared(positions_deg, self.words)


def check_location(model: LocatorModel, words: Mapping[str, str]) -> None:
    """Refuse what cannot be a graph.

    Raises:
        ConfigError: The location side looks positions up outside of it, or the prompt has no place for a word.
    """
    form = model.location.config.form
    if form in ("cells", "template"):
        why = {
            "cells": "it looks up each position's H3 cell, and ONNX knows no H3",
            "template": "it writes the digits of each position into a text, and ONNX knows no tokenizer",
        }[form]
        raise ConfigError(
            f"the location side of form {form!r} cannot be written as ONNX: {why}. Leave out --location and take the "
            "candidates' embeddings instead: swclip export GALLERY --embeddings float32 --out FILE.safetensors"
        )
    fields = prompt_fields(model.location.config.prompt) if model.location.text is not None else []
    for word in words:
        if word not in fields:
            named = ", ".join(fields) or "no field"
            raise ConfigError(f"--word {word}=...: the model's prompt has {named} beside the location; leave it out.")


def write_image(model: LocatorModel, path: Path, opset: int = OPSET) -> None:
    """Write the image side: `pixels` (B, 3, H, W) float32 to `image_embedding` (B, D) float32.

    Args:
        model: The model.
        path: The file.
        opset: Version of the ONNX operators.

    Raises:
        ConfigError: The exporter cannot write it; with its reason.
    """
    side = model.preprocess.size_px
    _write(ImageSide(model), model, torch.zeros(2, 3, side, side), path, IMAGE, opset)


def write_location(model: LocatorModel, path: Path, words: Words, opset: int = OPSET) -> None:
    """Write the location side: `positions_deg` (B, 2) float64 to `location_embedding` (B, D) float32.

    Args:
        model: The model.
        path: The file.
        words: Values of the prompt's fields, the same for all positions; a field without a value is left out.
        opset: Version of the ONNX operators.

    Raises:
        ConfigError: The form cannot be a graph, or the exporter cannot write it.
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
            raise ConfigError(f"{signature.file}: torch cannot write this model as ONNX ({reason}).") from e
    graph = program.model
    program.rename_axes({graph.graph.inputs[0].shape[0]: "batch"})
    # Where each node came from: paths of this machine, and as many bytes as the graph itself.
    for node in graph.graph.all_nodes():
        node.metadata_props.clear()
    graph.metadata_props.update({"swclip_fingerprint": model.fingerprint})
    weights = sum(value.const_value.nbytes for value in graph.graph.initializers.values())
    program.save(path, external_data=weights > _PROTOBUF_BYTES)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says of itself: that torchvision is not there, and of its own use of its own functions."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
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
