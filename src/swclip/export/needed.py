"""The packages that only an export needs."""

from __future__ import annotations

from importlib.util import find_spec

from swclip.errors import ConfigError

_NEEDED = ("onnx", "onnxscript", "onnxruntime")


def require_onnx() -> None:
    """Raise ConfigError where the extra is not installed."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"`swclip export` of a model needs {', '.join(missing)}; install them with: pip install 'swclip[export]'"
        )
