"""Towers from the model hub or a local folder, and the errors a person gets when one cannot be had."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

from torch import nn

from swclip.errors import ConfigError
from swclip.imaging.preprocess import Preprocess

# A checkpoint with two towers: which attribute holds the one that is asked for.
_TWO_TOWERS = ("clip", "siglip", "siglip2", "altclip", "chinese_clip")


def _unavailable(name: str, error: Exception) -> ConfigError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    where = (
        "the folder holds no usable model"
        if Path(name).is_dir()
        else "it is no local folder, and the model hub did not give it"
    )
    return ConfigError(
        f"tower {name!r}: {where} ({reason}). Give a folder, a hub name that can be reached, or builtin:small."
    )


def tower_from_name(name: str, side: Literal["vision", "text"]) -> nn.Module:
    """Load a pretrained tower; of a two-tower checkpoint (CLIP, SigLIP) the side that is asked for.

    Args:
        name: A name on the model hub or a local folder.
        side: `vision` or `text`.

    Raises:
        ConfigError: It cannot be loaded, with the reason.
    """
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # its bar says "Loading weights" over ours
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        model: nn.Module = AutoModel.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _unavailable(name, error) from error
    if config.model_type in _TWO_TOWERS:
        model = getattr(model, f"{side}_model")
    return model


def tower_config(tower: nn.Module) -> dict[str, Any]:
    """A tower's own transformers configuration, as JSON-ready values."""
    config: Any = tower.config
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    values["swclip_class"] = type(tower).__name__
    return values


def tower_from_config(values: dict[str, Any]) -> nn.Module:
    """Build a tower with fresh weights from `tower_config`'s values: no hub, no pretrained folder."""
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


def _is_tower(found: Any) -> bool:
    # The name comes from a file that may be a stranger's: nothing but a model is built by it.
    import transformers

    return isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)


def tower_preprocess(name: str, size_px: int | None) -> Preprocess:
    """Preprocessing from a tower's `preprocessor_config.json`.

    Args:
        name: A name on the model hub or a local folder.
        size_px: Another side than the file's, pixels; None keeps the file's.
    """
    from transformers.utils import cached_file

    try:
        found = cached_file(name, "preprocessor_config.json")
        values = json.loads(Path(str(found)).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unavailable(name, error) from error
    preprocess = Preprocess.from_transformers(values)
    if size_px is None:
        return preprocess
    # The shorter side before the cut grows or shrinks with it, so that as much of the photograph is seen.
    shortest = preprocess.shortest_px and round(preprocess.shortest_px * size_px / preprocess.size_px)
    return dataclasses.replace(preprocess, size_px=size_px, shortest_px=shortest)
