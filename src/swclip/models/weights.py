"""Weights as bytes: their identity, the file that holds them, and models that are built for the weights of a file."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_DRAWS = {"normal_", "uniform_", "kaiming_uniform_"}  # of tensors and of torch.nn.init, which transformers wraps


class WithoutDraws(TorchFunctionMode):
    """A context in which the parameters of modules are not drawn, which took longer than reading those of a file.

    Their values are undefined. Other tensors are drawn: `torch.nn.init.trunc_normal_` does so until all are in bounds.

    Example:
        >>> with WithoutDraws():
        ...     layer = nn.Linear(3, 2)
        >>> _ = layer.load_state_dict({"weight": torch.ones(2, 3), "bias": torch.zeros(2)})
        >>> layer(torch.ones(3)).tolist()
        [3.0, 3.0]
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch; return the parameter that it would draw."""
        named = kwargs or {}
        if getattr(function, "__name__", None) in _DRAWS:
            tensor = args[0] if args else named["tensor"]
            if isinstance(tensor, nn.Parameter):
                return tensor
        return function(*args, **named)


def weights_digest(state: Mapping[str, Tensor], extra: str) -> str:
    """Identity of weights and a text."""
    sha = hashlib.sha256(extra.encode())
    for name in sorted(state):
        sha.update(name.encode())
        sha.update(state[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()[:32]


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors.

    Raises:
        OSError: As for any file; a full disk has the system's error number, which safetensors only writes in its text.
    """
    try:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path, metadata=metadata)
    except SafetensorError as error:
        if f"(os error {errno.ENOSPC})" not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
