"""The text side: prompts that contain soft tokens, read by any transformers text tower or the built-in one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from swclip.errors import ConfigError
from swclip.models.download import hub_options
from swclip.models.towers import (
    PAD,
    PLACEHOLDER,
    SmallTextTransformer,
    _unavailable,
    tokenize,
    tower_config,
    tower_from_config,
    tower_from_name,
)

_POOLED_BY_TOWER = ("clip", "siglip")  # these were trained with a pooled output; the others are mean-pooled
_READS_PADDING = "siglip"  # trained on prompts padded to full length, without a mask; pools at the last token


class TextTower(nn.Module):
    """A text tower that reads prompts in which some tokens are learnable vectors.

    A hook on the tower's word embedding inserts the soft tokens: this works for every tower, including those whose
    pooling depends on the token ids.

    Args:
        name: `builtin:small`, a name on the model hub, or a local folder.
        architecture: The transformers configuration saved with a model; None loads pretrained weights.
        tokenizer_folder: Folder of a saved model's tokenizer; None loads it by name.

    Raises:
        ConfigError: The tower or its tokenizer cannot be loaded.
    """

    def __init__(
        self, name: str, architecture: dict[str, Any] | None = None, tokenizer_folder: Path | None = None
    ) -> None:
        super().__init__()
        self.tower: nn.Module
        self.tokenizer: Any = None
        self.architecture: dict[str, Any] | None = None
        if name == "builtin:small":
            self.tower = SmallTextTransformer()
            self.longest = SmallTextTransformer.longest
        elif name.startswith("builtin:"):
            raise ConfigError(f"text tower {name!r} is not built in; 'builtin:small' is.")
        else:
            self.tower = tower_from_name(name, "text") if architecture is None else tower_from_config(architecture)
            self.architecture = tower_config(self.tower)
            self.tokenizer = _load_tokenizer(str(tokenizer_folder or name))
            self.longest = int(self.architecture.get("max_position_embeddings") or 77)
        words = self.tower.get_input_embeddings()  # type: ignore[operator]
        self.width = int(words.weight.shape[1])
        self.word_scale = float(words.weight.detach().float().std())
        hidden = self.architecture.get("hidden_size") if self.architecture else SmallTextTransformer.width
        self.output_dim = int(hidden or self.width)
        self._ids = lru_cache(maxsize=65536)(self._tokenize)

    def _tokenize(self, text: str) -> tuple[int, ...]:
        if self.tokenizer is None:
            return tuple(tokenize(text))
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _sequence(self, parts: Sequence[str | int]) -> tuple[list[int], list[bool]]:
        """Ids of a prompt whose integer parts are numbers of soft tokens, and which of the ids are soft."""
        placeholder = PLACEHOLDER if self.tokenizer is None else self._placeholder()
        ids: list[int] = []
        soft: list[bool] = []
        for part in parts:
            new = [placeholder] * part if isinstance(part, int) else list(self._ids(part))
            ids += new
            soft += [isinstance(part, int)] * len(new)
        if self.tokenizer is not None:
            tokenizer = self.tokenizer
            first = [t for t in (tokenizer.bos_token_id, tokenizer.cls_token_id) if t is not None][:1]
            last = [t for t in (tokenizer.eos_token_id, tokenizer.sep_token_id) if t is not None][:1]
            ids, soft = first + ids + last, [False] * len(first) + soft + [False] * len(last)
        if len(ids) > self.longest:
            raise ConfigError(f"the prompt has {len(ids)} tokens, but the text tower reads {self.longest}; shorten it.")
        return ids, soft

    def count_tokens(self, parts: Sequence[str | int]) -> int:
        """Number of tokens of a prompt; see `forward`."""
        return len(self._sequence(parts)[0])

    @property
    def _family(self) -> str:
        return "builtin" if self.architecture is None else str(self.architecture["model_type"])

    def _placeholder(self) -> int:
        # An ordinary word: an end or padding token would change the tower's pooling or its mask.
        return self._ids("x")[0]

    def forward(
        self, prompts: Sequence[Sequence[str | int]], soft_tokens: Float[Tensor, "b k e"] | None
    ) -> Float[Tensor, "b t"]:
        """One vector per prompt.

        Args:
            prompts: B prompts, or one that all rows share; each a list of texts (str) and numbers of soft tokens (int).
            soft_tokens: (B, K, E) the soft tokens, in order; None without soft tokens.

        Returns:
            (B, output_dim) pooled hidden states.

        Raises:
            ConfigError: A prompt is longer than the tower reads.
        """
        device = next(self.tower.parameters()).device
        rows = [self._sequence(parts) for parts in prompts]
        padded = self._family.startswith(_READS_PADDING)
        longest = self.longest if padded else max(len(ids) for ids, _ in rows)
        pad = PAD if self.tokenizer is None else int(self.tokenizer.pad_token_id or 0)
        ids = torch.tensor([r + [pad] * (longest - len(r)) for r, _ in rows], device=device)
        mask = torch.tensor([[1] * len(r) + [int(padded)] * (longest - len(r)) for r, _ in rows], device=device)
        soft = torch.tensor([s + [False] * (longest - len(s)) for _, s in rows], device=device)
        if soft_tokens is not None and len(rows) == 1:
            count = soft_tokens.shape[0]
            ids, mask, soft = (x.expand(count, -1) for x in (ids, mask, soft))
        return self._read(ids, mask, soft, soft_tokens)

    def _read(
        self, ids: Int64[Tensor, "b t"], mask: Int64[Tensor, "b t"], soft: Tensor, soft_tokens: Tensor | None
    ) -> Tensor:
        def put_soft_tokens(_module: nn.Module, _inputs: Any, embedded: Tensor) -> Tensor:
            if soft_tokens is None:
                return embedded
            return embedded.masked_scatter(soft[..., None].expand_as(embedded), soft_tokens.to(embedded.dtype))

        hook = self.tower.get_input_embeddings().register_forward_hook(put_soft_tokens)  # type: ignore[operator]
        try:
            output = self.tower(input_ids=ids, attention_mask=mask)
        finally:
            hook.remove()
        if self._family.startswith(_POOLED_BY_TOWER):
            pooled: Tensor = output.pooler_output
            return pooled
        hidden = output if self.architecture is None else output.last_hidden_state
        weight = mask[..., None].to(hidden.dtype)
        mean: Tensor = (hidden * weight).sum(dim=1) / weight.sum(dim=1)
        return mean


def _load_tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False, **hub_options(name))
    except Exception as error:  # of any class, also those of the tokenizers library
        raise _unavailable(name, error) from error
