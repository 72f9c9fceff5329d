"""Location-as-text: a position as words and learnable tokens in a prompt that a text tower reads.

Three forms share one interface. `template` writes the coordinates in digits; `cells` has a token for every cell of a
hierarchy; `grid` interpolates soft tokens at the position. `LocationEncoder` combines the form, the text tower and the
direct path; it also contains the Fourier encoder, which reads no text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from swclip.geo.cells import cell_ids, parent_cell
from swclip.models.blocks import in_blocks_of_one_length, vector_rows
from swclip.models.config import LocationConfig
from swclip.models.coordinate_encoders import FourierEncoder, HashGrid, mlp
from swclip.models.text_tower import TextTower

Words = Mapping[str, str | None]
_FIELD = re.compile(r"\{(\w+)\}")


def prompt_parts(prompt: str, location: str | int, words: Words) -> list[str | int]:
    """Fill the fields of a prompt.

    Args:
        prompt: Text with fields in braces; `{location}` is replaced by `location`.
        location: A text for the location, or a number of soft tokens.
        words: Values of the other fields; a field without a value is omitted.

    Returns:
        Texts and numbers of soft tokens, in order.

    Example:
        >>> prompt_parts("a street in {city} at {location}", 4, {"city": "Leeds"})
        ['a street in Leeds at', 4]
    """
    parts: list[str | int] = []
    text = ""
    for index, piece in enumerate(_FIELD.split(prompt)):
        value: str | int = piece if index % 2 == 0 else location if piece == "location" else words.get(piece) or ""
        if isinstance(value, int):
            parts += [" ".join(text.split()), value]
            text = ""
        else:
            text += value
    return [part for part in [*parts, " ".join(text.split())] if part != ""]


def prompt_fields(prompt: str) -> list[str]:
    """The fields of a prompt that are filled from the manifest's columns: all but `{location}`.

    Example:
        >>> prompt_fields("a street in {city} at {location}")
        ['city']
    """
    return sorted(set(_FIELD.findall(prompt)) - {"location"})


class CellTokens(nn.Module):
    """One learnable vector per cell and level; a cell that is not in the vocabulary uses its nearest ancestor that is.

    Args:
        resolutions: H3 resolutions, coarse to fine.
        cells: The vocabulary, as saved with a model.
        width: E, the width of the vectors.
    """

    def __init__(self, resolutions: Sequence[int], cells: Sequence[str], width: int) -> None:
        super().__init__()
        self.resolutions = tuple(sorted(resolutions))
        self.cells = list(cells)
        self._row = {cell: row + 1 for row, cell in enumerate(self.cells)}
        self.table = nn.Embedding(len(self.cells) + 1, width)  # row 0: no ancestor in the vocabulary
        nn.init.normal_(self.table.weight, std=0.1)
        self.level = nn.Parameter(torch.randn(len(self.resolutions), width) * 0.1)

    def rows(self, positions_deg: Float64[Tensor, "b 2"]) -> list[list[int]]:
        """Table rows (B, levels) of positions (B, 2) in degrees; unseen cells are replaced by their ancestors."""
        points = positions_deg.detach().cpu().numpy()
        out = []
        for cell in cell_ids(points, self.resolutions[-1]):
            row, number = [], 0
            for resolution in self.resolutions:
                number = self._row.get(parent_cell(cell, resolution), number)
                row.append(number)
            out.append(row)
        return out

    def forward(self, positions_deg: Float64[Tensor, "b 2"]) -> Float[Tensor, "b k e"]:
        """Token vectors (B, levels, E) of positions (B, 2) in degrees."""
        rows = torch.tensor(self.rows(positions_deg), device=self.level.device)
        tokens: Tensor = self.table(rows) + self.level
        return tokens


def known_cells(positions_deg: Any, resolutions: Sequence[int]) -> list[str]:
    """The cells, at all resolutions, that contain one of the positions (N, 2) in degrees; sorted."""
    finest = sorted(set(cell_ids(positions_deg, max(resolutions))))
    return sorted({parent_cell(cell, resolution) for cell in finest for resolution in resolutions})


class LocationEncoder(nn.Module):
    """Positions to unit vectors of the shared space, by one of the forms of `LocationConfig`.

    Args:
        config: The location side's configuration.
        embedding_dim: D.
        cells: Vocabulary of the `cells` form; empty for the others.
        text_architecture: The text tower's transformers configuration saved with a model; None loads pretrained
            weights.
        tokenizer_folder: Folder of a saved model's tokenizer; None loads it by name.

    Raises:
        ConfigError: The text tower cannot be loaded.
    """

    def __init__(
        self,
        config: LocationConfig,
        embedding_dim: int,
        cells: Sequence[str] = (),
        text_architecture: dict[str, Any] | None = None,
        tokenizer_folder: Path | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        text = config.text_tower != "none"
        self.text = TextTower(config.text_tower, text_architecture, tokenizer_folder) if text else None
        self.grid: HashGrid | None = None
        self.cells: CellTokens | None = None
        self.fourier: FourierEncoder | None = None
        hidden, width = config.hidden_width, self.text.width if self.text else 0
        feature_dim = 0
        if config.form == "grid":
            self.grid = HashGrid(
                config.grid_levels,
                config.grid_coarsest_m,
                config.grid_finest_m,
                config.grid_features,
                config.grid_log2_size,
            )
            feature_dim = self.grid.output_dim
            self.to_tokens = mlp(feature_dim, hidden, config.location_tokens * width) if self.text else None
        elif config.form == "cells":
            self.cells = CellTokens(config.cell_resolutions, cells, width or 64)
            feature_dim = len(config.cell_resolutions) * (width or 64)
        elif config.form == "fourier":
            self.fourier = FourierEncoder(
                config.fourier_wavelengths_m,
                config.fourier_features,
                hidden,
                embedding_dim,
                config.fourier_layers,
                config.fourier_activation,
            )
        has_features = self.grid is not None or self.cells is not None
        self.direct = mlp(feature_dim, hidden, embedding_dim) if has_features and (config.direct or not text) else None
        if self.text:
            self.project = nn.Linear(self.text.output_dim, embedding_dim)
            self.token_norm = nn.LayerNorm(width, elementwise_affine=False)
            # Soft tokens start at the scale of the tower's word embeddings: much smaller ones have no effect.
            self.token_scale = nn.Parameter(torch.tensor(self.text.word_scale))
            self.context = nn.Parameter(torch.randn(config.context_tokens, width)) if config.context_tokens else None

    @property
    def reads_words(self) -> bool:
        """Whether the prompt has fields from the manifest, so that embeddings depend on words beside the position."""
        return self.text is not None and bool(prompt_fields(self.config.prompt))

    def forward(
        self, positions_deg: Float64[Tensor, "b 2"], words: Sequence[Words] | None = None
    ) -> Float[Tensor, "b d"]:
        """Unit vectors (B, D) of positions; each distinct pair of position and words is encoded once.

        Args:
            positions_deg: (B, 2) latitude, longitude in degrees, float64.
            words: B mappings with the prompt's other fields, or None.

        Raises:
            ConfigError: A prompt is longer than the text tower reads.
        """
        texts = [self._parts(w) for w in words] if words is not None and self.reads_words else None
        if texts is None:
            distinct, inverse = torch.unique(positions_deg, dim=0, return_inverse=True)
            return self._encode_distinct(distinct, None, inverse)
        kinds = {text: number for number, text in enumerate(dict.fromkeys(map(repr, texts)))}
        number = torch.tensor([kinds[repr(t)] for t in texts], dtype=positions_deg.dtype, device=positions_deg.device)
        distinct, inverse = torch.unique(torch.column_stack([positions_deg, number]), dim=0, return_inverse=True)
        by_number = {kinds[repr(t)]: t for t in texts}
        return self._encode_distinct(distinct[:, :2], [by_number[int(n)] for n in distinct[:, 2]], inverse)

    def _encode_distinct(
        self, positions_deg: Tensor, texts: Sequence[list[str | int]] | None, inverse: Int64[Tensor, " b"]
    ) -> Float[Tensor, "b d"]:
        """Encode distinct positions, and repeat them as `inverse` says."""
        if self.training:
            encoded = self._encode(positions_deg, texts)
        else:
            encoded = in_blocks_of_one_length(
                lambda rows: self._encode(positions_deg[rows], None if texts is None else [texts[row] for row in rows]),
                self._lengths(positions_deg, texts),
                vector_rows(positions_deg.device),
            )
        # Not encoded[inverse]: its gradient is added up in the order in which threads arrive.
        return F.embedding(inverse, encoded)

    def _lengths(self, positions_deg: Tensor, texts: Sequence[list[str | int]] | None) -> list[int]:
        """Numbers of tokens of the positions' prompts; zeros where all share one."""
        if self.text is None or (texts is None and self.config.form != "template"):
            return [0] * len(positions_deg)
        return [self.text.count_tokens(prompt) for prompt in self._prompts(positions_deg, texts)]

    def encode_shared(self, positions_deg: Float64[Tensor, "b 2"], words: Words) -> Float[Tensor, "b d"]:
        """Unit vectors (B, D) of positions whose prompts name the same words; `forward` gives the same.

        The control flow does not depend on the values of the positions, so that this can be traced into a graph;
        `forward`, which encodes equal positions once, cannot.

        Args:
            positions_deg: (B, 2) latitude, longitude in degrees, float64.
            words: The prompt's other fields.
        """
        return self._encode(positions_deg, [self._parts(words)])

    def _soft_count(self) -> int:
        return self.config.location_tokens if self.grid is not None else len(self.config.cell_resolutions)

    def _parts(self, words: Words, location: str | None = None) -> list[str | int]:
        lead: list[str | int] = [self.config.context_tokens] if self.config.context_tokens else []
        if self.config.form == "template":
            # `_encode`, which has the position, inserts the digits; here is only their placeholder.
            return lead + prompt_parts(self.config.prompt, location or "{location}", words)
        return lead + prompt_parts(self.config.prompt, self._soft_count(), words)

    def _prompts(self, positions_deg: Tensor, texts: Sequence[list[str | int]] | None) -> Sequence[list[str | int]]:
        """The positions' prompts, or one that all share."""
        prompts = texts if texts is not None else [self._parts({})]
        if self.config.form != "template":
            return prompts
        if len(prompts) == 1:
            prompts = list(prompts) * len(positions_deg)
        return [_with_digits(p, position) for p, position in zip(prompts, positions_deg.tolist(), strict=True)]

    def _encode(self, positions_deg: Tensor, texts: Sequence[list[str | int]] | None) -> Tensor:
        if self.fourier is not None:
            return F.normalize(self.fourier(positions_deg), dim=-1)
        features: Tensor | None = None
        tokens: Tensor | None = None
        if self.grid is not None:
            features = self.grid(positions_deg)
            if self.text and self.to_tokens:
                tokens = self.to_tokens(features).unflatten(1, (self.config.location_tokens, -1))
        elif self.cells is not None:
            tokens = self.cells(positions_deg)
            features = tokens.flatten(1)
        total = self.direct(features) if self.direct is not None and features is not None else None
        if self.text is not None:
            prompts = self._prompts(positions_deg, texts)
            if tokens is not None:
                tokens = self.token_norm(tokens)
            if self.context is not None:
                context = self.token_norm(self.context).expand(positions_deg.shape[0], -1, -1)
                tokens = context if tokens is None else torch.cat([context, tokens], dim=1)
            read = self.project(self.text(prompts, None if tokens is None else tokens * self.token_scale))
            total = read if total is None else total + read
        assert total is not None
        return F.normalize(total, dim=-1)


def _with_digits(parts: Sequence[str | int], position: Sequence[float]) -> list[str | int]:
    digits = f"latitude {position[0]:.5f}, longitude {position[1]:.5f}"
    return [part.replace("{location}", digits) if isinstance(part, str) else part for part in parts]
