"""Fine-tuning of an image tower: all weights, those of its last blocks, or LoRA adapters of those.

Fine-tuning a whole pretrained tower on a few thousand photographs causes forgetting, and needs memory for all of its
gradients. The usual alternatives are to train the last blocks only, or adapters of low rank. A LoRA adapter changes a
linear layer y = W x + b to

    y = W x + b + (alpha / r) B A x,      A (r, in), B (out, r), B = 0 at the start

The first step therefore sees the pretrained tower. The adapters are merged into W when the model is saved: a saved
model has an ordinary tower.

References:
    E. J. Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022, eq. 3.
    A. Kumar, A. Raghunathan, R. Jones, T. Ma, P. Liang, "Fine-tuning can distort pretrained features and underperform
    out-of-distribution", ICLR 2022 (LP-FT).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from swclip.errors import ConfigError
from swclip.models.embed import Progress
from swclip.models.feature_cache import FeatureCache
from swclip.models.image_tower import ImageTower
from swclip.models.locator_model import LocatorModel
from swclip.models.token_cache import TokenCache, TokenSource, TokenType, transformer_blocks
from swclip.training.distributed import Process, errors_in_all

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TuningConfig:
    """The trained part of an image tower that is not frozen.

    Attributes:
        blocks: Number of the last transformer blocks that are trained, with the layers after them; 0 for the whole
            tower.
        lora_rank: Rank r of LoRA adapters on the linear layers of those blocks (of all if `blocks` is 0), which are
            trained instead of the weights; 0 for none.
        lora_alpha: Scale alpha of the adapters.
        after: Steps for which the whole tower stays frozen, on stored features: the heads are trained first, since the
            gradients of random heads would distort the tower (LP-FT).
        tokens: Type in which the tokens of the frozen blocks below are stored on disk, once for all steps and runs;
            `none` computes them at every step. They are also computed at every step if photographs are augmented.
        tokens_gb: Largest size of all stored tokens on disk, GB.

    Raises:
        ConfigError: A value that cannot work.
    """

    blocks: int = 0
    lora_rank: int = 0
    lora_alpha: float = 16.0
    after: int = 0
    tokens: TokenType | Literal["none"] = "float16"
    tokens_gb: float = 20.0

    def __post_init__(self) -> None:
        for name, value in (("blocks", self.blocks), ("lora_rank", self.lora_rank), ("after", self.after)):
            if value < 0:
                raise ConfigError(f"tuning {name} {value} must be 0 or more.")
        if not 0.0 < self.lora_alpha < math.inf:
            raise ConfigError(f"tuning lora_alpha {self.lora_alpha} must be a positive number, such as 16.")
        if not 0.0 < self.tokens_gb < math.inf:
            raise ConfigError(f"tuning tokens_gb {self.tokens_gb} must be above 0; tokens = 'none' stores nothing.")

    @property
    def partial(self) -> bool:
        """Whether only a part of the tower is trained."""
        return self.blocks > 0 or self.lora_rank > 0


class LoraAdapters(nn.Module):
    """LoRA adapters of linear layers, beside the model and not part of it.

    Args:
        layers: The layers, by name.
        rank: Rank r.
        alpha: Scale alpha.
        seed: Seed of A; B is initially 0.
    """

    def __init__(self, layers: dict[str, nn.Linear], rank: int, alpha: float, seed: int) -> None:
        super().__init__()
        self.scale, self.active = alpha / rank, True
        self.down, self.up = nn.ParameterList(), nn.ParameterList()
        self._layers = list(layers.values())
        drawn = torch.Generator().manual_seed(seed)
        for number, layer in enumerate(self._layers):
            limit = 1.0 / math.sqrt(layer.in_features)  # Kaiming uniform with a = sqrt(5), as Hu et al. draw A
            down = torch.empty(rank, layer.in_features).uniform_(-limit, limit, generator=drawn)
            self.down.append(nn.Parameter(down))
            self.up.append(nn.Parameter(torch.zeros(layer.out_features, rank)))
            layer.register_forward_hook(partial(self._adapted, number))

    def _adapted(self, number: int, _layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        if not self.active:
            return output
        return output + self.scale * F.linear(F.linear(inputs[0], self.down[number]), self.up[number])

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Merge the adapters into the layers' weights within the context; afterwards those are restored bit for bit."""
        kept = [layer.weight.detach().clone() for layer in self._layers]
        with torch.no_grad():
            for layer, down, up in zip(self._layers, self.down, self.up, strict=True):
                layer.weight += self.scale * up @ down
        self.active = False
        try:
            yield
        finally:
            self.active = True
            with torch.no_grad():
                for layer, weight in zip(self._layers, kept, strict=True):
                    layer.weight.copy_(weight)


@contextmanager
def merged_weights(adapters: LoraAdapters | None) -> Iterator[None]:
    """Merge adapters, if any, into a model's weights within the context: the weights to be saved."""
    if adapters is None:
        yield
        return
    with adapters.merged():
        yield


def tune(tower: ImageTower, config: TuningConfig, seed: int) -> LoraAdapters | None:
    """Select the trained parameters of a tower, and add LoRA adapters where the configuration has them.

    Args:
        tower: The image tower; `requires_grad` of its parameters is set.
        config: The trained part.
        seed: Seed of the adapters.

    Returns:
        The adapters; None where there are none.

    Raises:
        ConfigError: The tower has fewer blocks, or none.
    """
    if not config.partial:
        return None
    blocks = _blocks(tower, config)
    chosen = list(range(len(blocks) - (config.blocks or len(blocks)), len(blocks)))
    learning = {id(p) for number in chosen for p in blocks[number].parameters()}
    within = {id(p) for block in blocks for p in block.parameters()}
    behind = False  # parameters are in the order of their use
    for parameter in tower.parameters():
        if id(parameter) in within:
            behind = True
        elif behind:
            learning.add(id(parameter))
    for parameter in tower.parameters():
        parameter.requires_grad_(id(parameter) in learning and not config.lora_rank)
    if not config.lora_rank:
        return None
    layers = {
        f"{number}.{name}": layer
        for number in chosen
        for name, layer in blocks[number].named_modules()
        if isinstance(layer, nn.Linear)
    }
    return LoraAdapters(layers, config.lora_rank, config.lora_alpha, seed)


def token_cache(
    config: TuningConfig, augment: bool, model: LocatorModel, cache: FeatureCache, paths: Sequence[Path]
) -> TokenCache | None:
    """The stored tokens below the trained blocks; None where they are not stored, with the reason in the log.

    Args:
        config: The trained part.
        augment: Whether training photographs are augmented.
        model: The model.
        cache: The cache in whose folder they are stored.
        paths: All photographs of the run, for training and validation.
    """
    tower, _ = model.single_tower("training the image tower")
    count = len(transformer_blocks(tower))
    if config.tokens == "none" or not 0 < config.blocks <= max(config.blocks, tower.blocks) < count:
        return None
    if augment:
        _LOG.info(
            "the frozen blocks of the image tower run at every step, since augmentation changes the pixels each time; "
            "with augment = false their tokens are computed once and stored"
        )
        return None
    tokens = TokenCache.of(cache, model, config.blocks, config.tokens, paths[0])
    reason = tokens.reserve(model, paths, config.tokens_gb)
    if reason is None:
        return tokens
    _LOG.warning("tokens of the image tower are not stored, and its frozen blocks run at every step: %s", reason)
    return None


def stored_tokens(
    tokens: TokenCache, model: LocatorModel, paths: Sequence[Path], process: Process, progress: Progress
) -> tuple[TokenSource, Callable[[Tensor], Tensor]]:
    """The tokens of the training photographs, computed where the cache lacks them, and their embedding.

    Args:
        tokens: The cache.
        model: The model.
        paths: The training photographs.
        process: This process: each one computes its share.
        progress: Called with (done, total).

    Raises:
        InputError: Photographs cannot be decoded.
    """
    split = tokens.split(model)
    with errors_in_all(process):
        tokens.rows(model, paths[process.rank :: process.count], progress)
    source = TokenSource(tokens.rows(model, paths, progress), split.shape)
    return source, lambda inputs: model.encode_image_features(split.features(inputs))


def _blocks(tower: ImageTower, config: TuningConfig) -> list[nn.Module]:
    """The transformer blocks, from the first to the last."""
    blocks = transformer_blocks(tower)
    if not blocks:
        kind = "builtin" if tower.architecture is None else tower.architecture["model_type"]
        raise ConfigError(
            f"tuning: a {kind!r} image tower has no sequence of transformer blocks; set tuning.blocks and "
            "tuning.lora_rank to 0 to train all of it."
        )
    if config.blocks > len(blocks):
        raise ConfigError(f"tuning.blocks {config.blocks}: the image tower has {len(blocks)} blocks; give fewer.")
    return blocks
