"""The built-in small towers: they need no download, and can be trained from scratch on a CPU."""

from __future__ import annotations

import re
import zlib

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

PAD, PLACEHOLDER, UNKNOWN_WORDS = 0, 1, 8192
_FIRST_WORD = 128  # ids below are single ASCII characters: digits and punctuation are their own ids
_TOKEN = re.compile(r"[^\W\d_]+|\S")


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(8, width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(8, width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.first(x)))
        return F.relu(x + self.norm2(self.second(y)))


class SmallConvNet(nn.Module):
    """A convolutional network of about 0.4 million weights with a total stride of 16.

    The first layer embeds patches of 4 x 4 pixels, since the first, largest maps take most of a convolutional network's
    time on a CPU. It uses group normalisation instead of batch normalisation, since a batch contains neighbours by
    design, and two processes must equal one.
    """

    width = 192

    def __init__(self) -> None:
        super().__init__()
        self.patches = _normed(nn.Conv2d(3, 48, 4, stride=4, bias=False), 48)
        self.stages = nn.Sequential(
            _normed(nn.Conv2d(48, 96, 3, stride=2, padding=1, bias=False), 96),
            _Residual(96),
            _normed(nn.Conv2d(96, self.width, 3, stride=2, padding=1, bias=False), self.width),
        )

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c y x"]:
        """Feature maps (B, 192, H / 16, W / 16) of normalised pixels (B, 3, H, W)."""
        maps: Tensor = self.stages(self.patches(pixels.contiguous(memory_format=torch.channels_last)))
        return maps


def _normed(convolution: nn.Conv2d, width: int) -> nn.Sequential:
    return nn.Sequential(convolution, nn.GroupNorm(8, width), nn.ReLU())


def tokenize(text: str) -> list[int]:
    """Token ids of a text: words are hashed into a fixed vocabulary; each digit and punctuation mark is one token.

    Example:
        >>> tokenize("at 5") == [tokenize("at")[0], ord("5")]
        True
    """
    ids = []
    for token in _TOKEN.findall(text.lower()):
        if len(token) == 1 and token.isascii() and not token.isalpha():
            ids.append(ord(token))
        else:
            ids.append(_FIRST_WORD + zlib.crc32(token.encode()) % (UNKNOWN_WORDS - _FIRST_WORD))
    return ids


class SmallTextTransformer(nn.Module):
    """Two pre-norm transformer layers over hashed words, mean-pooled by its caller."""

    width = 128
    longest = 96

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(UNKNOWN_WORDS, self.width)
        nn.init.normal_(self.words.weight, std=0.05)
        self.places = nn.Parameter(torch.randn(self.longest, self.width) * 0.01)
        layer = nn.TransformerEncoderLayer(
            self.width, 4, 4 * self.width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(self.width)

    def get_input_embeddings(self) -> nn.Embedding:
        """The word embedding, as in transformers."""
        return self.words

    def forward(self, input_ids: Int64[Tensor, "b t"], attention_mask: Int64[Tensor, "b t"]) -> Float[Tensor, "b t e"]:
        """Hidden states (B, T, E) of token ids (B, T); the mask (B, T) is 1 for tokens and 0 for padding."""
        x = self.words(input_ids) + self.places[: input_ids.shape[1]]
        hidden: Tensor = self.norm(self.layers(x, src_key_padding_mask=attention_mask == 0))
        return hidden
