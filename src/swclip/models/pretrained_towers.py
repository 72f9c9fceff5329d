"""Towers from the model hub or a local folder, and the error where one cannot be loaded."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

from torch import nn

from swclip.errors import ConfigError
from swclip.imaging.preprocess import Preprocess

# Families of checkpoints with two towers.
_TWO_TOWERS = ("clip", "siglip", "siglip2", "altclip", "chinese_clip")


def _unavailable(name: str, error: Exception) -> ConfigError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    where = (
        "the folder has no usable model"
        if Path(name).is_dir()
        else "it is not a local folder, and the model hub did not provide it"
    )
    return ConfigError(
        f"tower {name!r}: {where} ({reason}). Give a folder, a hub name that can be reached, or builtin:small."
    )


def tower_from_name(name: str, side: Literal["vision", "text"]) -> nn.Module:
    """Load a pretrained tower; of a two-tower checkpoint (CLIP, SigLIP) one side.

    Args:
        name: A name on the model hub or a local folder.
        side: The side of a two-tower checkpoint: `vision` or `text`.

    Raises:
        ConfigError: It cannot be loaded; the message has the reason.
    """
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # its bar would overwrite swclip's
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        model: nn.Module = AutoModel.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _unavailable(name, error) from error
    if config.model_type in _TWO_TOWERS:
        model = getattr(model, f"{side}_model")
    return model


def tower_config(tower: nn.Module) -> dict[str, Any]:
    """The transformers configuration of a tower, as values for JSON."""
    config: Any = tower.config
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    values["swclip_class"] = type(tower).__name__
    return values


def tower_from_config(values: dict[str, Any]) -> nn.Module:
    """Build a tower with random weights from the values of `tower_config`, without the hub or a pretrained folder.

    Raises:
        ConfigError: The installed transformers release does not have the tower.
    """
    import transformers

    name = values["swclip_class"]
    cls: Any = getattr(transformers, name, None)
    if cls is None:  # the inner transformer of a CLIP or SigLIP model is not a public name
        public = name.replace("Transformer", "Model")
        cls = getattr(transformers, public, None)
    if not _is_tower(cls):
        raise ConfigError(
            f"this transformers release does not know {name}; install the release the model was saved with."
        )
    config = cls.config_class.from_dict({k: v for k, v in values.items() if k != "swclip_class"})
    model: nn.Module = cls._from_config(config) if hasattr(cls, "_from_config") else cls(config)
    return model


def _is_tower(cls: Any) -> bool:
    # The name comes from a file that may be untrusted: only model classes are built by it.
    import transformers

    return isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel)


def tower_preprocess(name: str, size_px: int | None) -> Preprocess:
    """Preprocessing from a tower's `preprocessor_config.json`.

    Args:
        name: A name on the model hub or a local folder.
        size_px: Another side than the file's, pixels; None keeps the file's.

    Raises:
        ConfigError: The file cannot be loaded.
    """
    from transformers.utils import cached_file

    try:
        file = cached_file(name, "preprocessor_config.json")
        values = json.loads(Path(str(file)).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unavailable(name, error) from error
    preprocess = Preprocess.from_transformers(values)
    if size_px is None:
        return preprocess
    # The shorter side before the crop scales with it, so that the crop contains as much of the photograph.
    shortest = preprocess.shortest_px and round(preprocess.shortest_px * size_px / preprocess.size_px)
    return dataclasses.replace(preprocess, size_px=size_px, shortest_px=shortest)
