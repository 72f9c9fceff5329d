"""Tokens of an image tower whose lower blocks are frozen, stored on disk so that they are computed once.

While only the last blocks of a tower are trained, the blocks below give the same tokens at every step. They are kept
like the features of a frozen tower (`swclip.models.feature_cache`), with the SHA-256 of the photograph's bytes as their
key, in a folder for one state of the lower blocks, one preprocessing and one type; a step then reads them instead of
decoding photographs and running the lower blocks.

    FOLDER/tokens/<fingerprint>/*.safetensors   keys (n, 32) uint8, features (n, N * C) float16 or float32
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from swclip.errors import ConfigError
from swclip.models.blocks import in_blocks, picture_rows, stacked
from swclip.models.embed import Failure, PathLike, Progress, evaluating
from swclip.models.feature_cache import FeatureCache
from swclip.models.image_tower import FrozenSide, ImageTower
from swclip.models.locator_model import LocatorModel
from swclip.models.weights import weights_digest

_LOG = logging.getLogger(__name__)

TokenType = Literal["float16", "float32"]

_PURPOSE = "training the last blocks"
_SHARD_BYTES = 64 << 20
_READ_ROWS = 64


def transformer_blocks(tower: ImageTower) -> list[nn.Module]:
    """The transformer blocks of a tower, from the first to the last; none where it has no sequence of blocks."""
    count = None if tower.architecture is None else tower.architecture.get("num_hidden_layers")
    lists = [module for module in tower.backbone.modules() if isinstance(module, nn.ModuleList)]
    return next((list(module) for module in lists if len(module) == count), [])


class _Reached(Exception):
    """Ends a forward pass at the first upper block, with the tokens that it would have read."""

    def __init__(self, tokens: Tensor) -> None:
        super().__init__()
        self.tokens = tokens


class SplitTower:
    """An image tower in two parts: from pixels to the tokens between two blocks, and from those to pooled features.

    Both parts are passes of the tower itself, the first one ended early, the second with its lower blocks skipped, so
    that a tower of any family does between and after its blocks what it always does.

    Args:
        model: The model whose image tower is split.
        upper: Number of the last blocks in the upper part; the tower has more. All blocks that are pooled belong to it.
        picture: (3, H, W), the shape of a preprocessed photograph.

    Attributes:
        lower: Number of blocks in the lower part.
        shape: (N, C), tokens of a photograph and their width.
    """

    def __init__(self, model: LocatorModel | FrozenSide, upper: int, picture: Sequence[int]) -> None:
        self._tower, self.preprocess = model.single_tower(_PURPOSE)
        self.logit_scale = model.logit_scale
        self._blocks = transformer_blocks(self._tower)
        self.lower = len(self._blocks) - max(upper, self._tower.blocks)
        self._blank = torch.zeros(1, *picture, device=self.logit_scale.device, dtype=self.logit_scale.dtype)
        self._in_tuples = False  # whether blocks return tuples, as in transformers 4
        with evaluating(self._tower), self._hooked(self.lower - 1, self._note_form, after=True):
            tokens = self.tokens(self._blank)
        self.shape: tuple[int, int] = (tokens.shape[1], tokens.shape[2])

    def tokens(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n c"]:
        """Tokens (B, N, C) at the first upper block, of preprocessed photographs (B, 3, H, W).

        Raises:
            ConfigError: They have another shape than `picture`.
        """
        if pixels.shape[1:] != self._blank.shape[1:]:
            shapes = [f"{tensor.shape[3]} x {tensor.shape[2]}" for tensor in (pixels, self._blank)]
            raise ConfigError(
                f"a photograph is {shapes[0]} pixels preprocessed, and the first one is {shapes[1]}, but a tower "
                "that is trained needs pictures of one shape. Set model.image.crop to 'centre' or 'squash' (--crop), "
                "or freeze the tower (--freeze image), which may see whole pictures of any shape."
            )
        try:
            with self._hooked(self.lower, self._stop):
                self._tower(pixels)
        except _Reached as reached:
            return reached.tokens
        raise AssertionError("the tower did not run its blocks")

    def image_features(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b t"]:
        """Tokens in one row per photograph (B, N * C), which the cache stores."""
        return self.tokens(pixels).flatten(1)

    def features(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b f"]:
        """Pooled features (B, F) of tokens (B, N, C), with gradients for the upper blocks."""

        def replaced(_block: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
            return ((tokens, *inputs[1:]), named) if inputs else (inputs, {**named, "hidden_states": tokens})

        with self._skipping_lower(), self._hooked(self.lower, replaced):
            features: Tensor = self._tower(self._blank)  # one blank picture, for what depends on its size alone
        return features

    @property
    def feature_fingerprint(self) -> str:
        """Identity of tokens: the weights that they depend on, the block and the preprocessing."""
        weights: dict[str, Tensor] = {}
        first_upper = {id(parameter) for parameter in self._blocks[self.lower].parameters()}
        for name, value in self._tower.state_dict(keep_vars=True).items():  # in the order of their use
            if id(value) in first_upper:
                break
            weights[name] = value
        return weights_digest(weights, f"tokens before block {self.lower}{self._blank.shape}{self.preprocess.digest}")

    @contextmanager
    def _hooked(self, number: int, hook: Any, *, after: bool = False) -> Iterator[None]:
        block = self._blocks[number]
        handle = block.register_forward_hook(hook) if after else block.register_forward_pre_hook(hook, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _skipping_lower(self) -> Iterator[None]:
        def skipped(hidden_states: Tensor, *_args: object, **_named: object) -> Any:
            return (hidden_states,) if self._in_tuples else hidden_states

        for block in self._blocks[: self.lower]:
            block.forward = skipped  # of the object: hides the method of its class
        try:
            yield
        finally:
            for block in self._blocks[: self.lower]:
                del block.forward

    def _note_form(self, _block: nn.Module, _inputs: object, output: object) -> None:
        self._in_tuples = isinstance(output, tuple)

    def _stop(self, _block: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        raise _Reached(inputs[0] if inputs else named["hidden_states"])


@dataclass(frozen=True)
class TokenCache:
    """Tokens on disk, below the blocks of a tower that are trained.

    It is also a source of features for `embed_photographs`: those of the model's current upper blocks.

    Attributes:
        cache: The cache in whose folder they are stored.
        upper: Number of the last blocks that are trained or pooled; see `SplitTower`.
        picture: (3, H, W), the shape of a preprocessed photograph.
    """

    cache: FeatureCache
    upper: int
    picture: tuple[int, ...]

    @classmethod
    def of(
        cls, cache: FeatureCache, model: LocatorModel, upper: int, kind: TokenType, photograph: PathLike
    ) -> TokenCache:
        """The tokens of a model.

        Args:
            cache: The cache in whose folder they are stored.
            model: The model.
            upper: Number of the last blocks that are trained or pooled.
            kind: Type on disk. float16 has half the size; its relative rounding error is at most 0.0005.
            photograph: A photograph, which shows the size of preprocessed pictures.
        """
        picture = model.single_tower(_PURPOSE)[1].read(photograph).shape
        row_bytes = int(np.prod(SplitTower(model, upper, picture).shape)) * np.dtype(kind).itemsize
        rows = max(1, min(cache.shard_rows, _SHARD_BYTES // row_bytes))
        return cls(replace(cache, shard_rows=rows, kind="tokens", dtype=kind), upper, picture)

    def split(self, model: LocatorModel | FrozenSide) -> SplitTower:
        """A model's tower in two parts."""
        return SplitTower(model, self.upper, self.picture)

    def reserve(self, model: LocatorModel, paths: Sequence[PathLike], limit_gb: float) -> str | None:
        """Make room for the tokens of photographs, and log their size.

        Tokens of other towers, sizes or blocks are removed, the oldest first, where all would exceed the limit.

        Args:
            model: The model.
            paths: N photographs, all that the run uses.
            limit_gb: Largest size of all stored tokens, GB (10^9 bytes).

        Returns:
            None; or why they cannot be stored.
        """
        split = self.split(model)
        each = int(np.prod(split.shape)) * np.dtype(self.cache.dtype).itemsize
        folder = self.cache.folder_of(split)
        stored = self.cache.count(split, paths)
        new, whole = (len(paths) - stored) * each, len(paths) * each
        size = f"{len(paths)} photographs x {each / 1e3:,.0f} kB = {whole / 1e9:.2f} GB"
        others = sorted(
            (path for path in folder.parent.glob("*") if path != folder and path.is_dir()),
            key=lambda path: path.stat().st_mtime,
        )
        sizes = {path: sum(file.stat().st_size for file in path.glob("*")) for path in [folder, *others]}
        if sizes[folder] + new > limit_gb * 1e9:
            return f"{size} exceed the limit of {limit_gb:g} GB (tuning.tokens_gb)"
        excess = sum(sizes.values()) + new - limit_gb * 1e9
        for other in others:
            if excess <= 0:
                break
            _LOG.info("%s: tokens of an earlier run are removed, %.2f GB", other, sizes[other] / 1e9)
            shutil.rmtree(other, ignore_errors=True)
            excess -= sizes[other]
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if new > 0.9 * free:
            return f"{size}, of which {new / 1e9:.2f} GB are new, do not fit on the disk ({free / 1e9:.2f} GB free)"
        _LOG.info(
            "the first %d blocks of the image tower run once; their tokens are stored in %s: %s in %s, of which %d "
            "photographs are there already",
            split.lower,
            self.cache.dtype,
            size,
            folder,
            stored,
        )
        return None

    def rows(
        self, model: LocatorModel, paths: Sequence[PathLike], progress: Progress | None = None
    ) -> list[Float[np.ndarray, " t"]]:
        """Tokens of photographs, computed where the cache lacks them; each (N * C,), mapped from disk.

        Raises:
            InputError: Photographs cannot be decoded.
            ConfigError: A token exceeds the range of float16.
        """
        with evaluating(model):
            rows = self.cache.mapped(self.split(model), paths, progress=progress)
        return [row for row in rows if row is not None]

    def features(
        self,
        model: Any,
        paths: Sequence[PathLike],
        *,
        batch_size: int = _READ_ROWS,
        workers: int | None = None,
        failures: list[Failure] | None = None,
        progress: Progress | None = None,
    ) -> Float32[np.ndarray, "n f"]:
        """Features (N, F) of photographs by the upper blocks of a model, from stored tokens; as `FeatureCache`."""
        with evaluating(model):
            split = self.split(model)
            rows = self.cache.mapped(split, paths, workers=workers, failures=failures, progress=progress)
            device = split.logit_scale.device
            batches: list[Any] = []
            for start in range(0, len(rows), batch_size):
                good = [row for row in rows[start : start + batch_size] if row is not None]
                if not good:
                    continue
                features = in_blocks(split.features, _token_tensor(good, split.shape).to(device), picture_rows(device))
                batches.append(features.float().cpu().numpy())
        computed = iter(stacked(batches))
        blank = np.full(model.image_tower.feature_dim, np.nan, dtype=np.float32)
        return np.stack([blank if row is None else next(computed) for row in rows])


class TokenSource:
    """Tokens below the trained blocks of a tower, mapped from disk.

    Args:
        rows: N rows (T * C,) of the training photographs.
        shape: (T, C), tokens of a photograph and their width.
    """

    def __init__(self, rows: Sequence[Float[np.ndarray, " t"]], shape: tuple[int, int]) -> None:
        self._rows, self._shape = rows, shape

    def rows(self, rows: Int64[np.ndarray, " b"]) -> Tensor:
        """(B, T, C) tokens, float32."""
        return _token_tensor([self._rows[row] for row in rows], self._shape)


def _token_tensor(rows: Sequence[Float[np.ndarray, " t"]], shape: tuple[int, int]) -> Float32[Tensor, "b n c"]:
    return torch.from_numpy(np.stack(rows).astype(np.float32, copy=False)).reshape(-1, *shape)
