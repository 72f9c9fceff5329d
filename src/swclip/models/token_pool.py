"""Learnt pooling of patch tokens, on the trained side: it works on the kept features of a frozen tower too."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from swclip.models.config import TokenPooling

_LEAST = 1e-6
_KEY_DIM, _VALUE_DIM = 64, 96


class SignedGem(nn.Module):
    """Generalised means with one learnt power, of features that have both signs.

        m_c = 1/N sum_n sign(x_nc) |x_nc|^p,      y_c = sign(m_c) |m_c|^(1/p)

    p = 1 is the mean; with p large the tokens that a feature is strongest in decide. Where all x > 0 it is the
    published GeM, which cuts negative values off: of a transformer's tokens that would be half of what they say.

    References:
        F. Radenovic, G. Tolias, O. Chum, "Fine-tuning CNN image retrieval with no human annotation" (2018), eq. 3;
        N. Keetha et al., "AnyLoc: towards universal visual place recognition" (2023): GeM over DINOv2's patch tokens.

    Args:
        power: p at the start.

    Example:
        >>> tokens = torch.tensor([[[1.0, -2.0], [3.0, -2.0]]])
        >>> SignedGem(1.0)(tokens).tolist()
        [[2.0, -2.0]]
    """

    def __init__(self, power: float = 3.0) -> None:
        super().__init__()
        self.log_power = nn.Parameter(torch.tensor(math.log(power)))

    def forward(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b c"]:
        """Pool (B, N, C) tokens to (B, C)."""
        power = self.log_power.exp()
        # Away from 0, where the root has no slope.
        mean = (tokens.sign() * tokens.abs().clamp(min=_LEAST).pow(power)).mean(dim=1)
        return mean.sign() * mean.abs().clamp(min=_LEAST).pow(1.0 / power)


class AttentionPool(nn.Module):
    """Weighted sums of tokens, the weights asked for by learnt questions and the cell of the grid.

        w_qn = softmax_n(a_q . W_k z_n / sqrt(d) + b_qn),      y = (sum_n w_qn W_v z_n) for all q side by side

    with z_n the token after layer norm. Every question has a bias for each cell (b), since what lies where in a street
    photograph is not chance: the sky is above.

    Args:
        token_dim: C.
        cells: N, cells of the grid.
        queries: Questions.

    References:
        J. Lee et al., "Set transformer" (2019), section 3.2: pooling by attention with learnt seeds.
    """

    def __init__(self, token_dim: int, cells: int, queries: int) -> None:
        super().__init__()
        self.key = nn.Linear(token_dim, _KEY_DIM, bias=False)
        self.value = nn.Linear(token_dim, _VALUE_DIM)
        self.query = nn.Parameter(torch.randn(queries, _KEY_DIM))
        self.bias = nn.Parameter(torch.zeros(queries, cells))
        self.output_dim = queries * _VALUE_DIM

    def forward(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b f"]:
        """Pool (B, N, C) tokens to (B, F)."""
        normed = F.layer_norm(tokens, tokens.shape[-1:])
        logits = self.query @ self.key(normed).transpose(1, 2) / math.sqrt(_KEY_DIM) + self.bias
        pooled: Tensor = (logits.softmax(dim=-1) @ self.value(normed)).flatten(1)
        return pooled


class TokenPool(nn.Module):
    """A tower's features, whose tokens come last, to what the image head reads: the pooled ones and the learnt pooling.

    Args:
        form: `gem` or `attention`.
        pooled_dim: Features before the tokens.
        token_dim: Width of a token.
        cells: Tokens.
        queries: Questions of the attention.
    """

    def __init__(self, form: TokenPooling, pooled_dim: int, token_dim: int, cells: int, queries: int) -> None:
        super().__init__()
        self._pooled_dim, self._shape = pooled_dim, (cells, token_dim)
        self.pool: SignedGem | AttentionPool
        if form == "gem":
            self.pool, added = SignedGem(), token_dim
        else:
            self.pool = AttentionPool(token_dim, cells, queries)
            added = self.pool.output_dim
        self.output_dim = pooled_dim + added

    def forward(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b g"]:
        """(B, G) of (B, F)."""
        # Not len(features): that would be a number of its own in an exported graph, whatever the batch.
        tokens = features[:, self._pooled_dim :].reshape(features.shape[0], *self._shape)
        return torch.cat([features[:, : self._pooled_dim], self.pool(tokens)], dim=1)
