"""Towers from the model hub or a local folder, and the error where one cannot be loaded.

Only safetensors and JSON are read, as of published models (`swclip.models.download`): nothing in a folder is unpickled
or executed.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open
from torch import nn

from swclip.errors import ArtefactError, ConfigError, SwclipError
from swclip.files import read_json
from swclip.imaging.preprocess import Preprocess
from swclip.models.download import check_configuration, refuse_remote_code

# Families of checkpoints with two towers.
_TWO_TOWERS = ("clip", "siglip", "siglip2", "altclip", "chinese_clip")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
_ANOTHER = "Use another tower, or one from a source you trust that is saved as safetensors."


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
        ConfigError: It cannot be loaded, is not saved as safetensors, or asks for remote code; with the reason.
    """
    from transformers import AutoConfig, AutoModel
    from transformers.utils import cached_file, logging

    logging.disable_progress_bar()  # its bar would overwrite swclip's
    try:
        _check_folder(Path(name))
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        check_configuration(Path(str(cached_file(name, "config.json"))), _ANOTHER)
        if weights := getattr(config, "transformers_weights", None):
            raise ArtefactError(f"tower {name!r}: its config.json names other weights, {weights!r}. {_ANOTHER}")
        model: nn.Module = AutoModel.from_pretrained(name, trust_remote_code=False, use_safetensors=True)
        return getattr(model, f"{side}_model") if config.model_type in _TWO_TOWERS else model
    except ArtefactError as error:
        raise ConfigError(str(error)) from error
    except Exception as error:  # of any class: the values of a folder's files reach all parts of transformers
        raise _unavailable(name, error) from error


def _check_folder(folder: Path) -> None:
    """Check the files of a tower before transformers reads them; nothing to check where it is a name on the hub."""
    if not (folder / "config.json").exists():
        return  # transformers says so
    for path in sorted(folder.iterdir()):
        if not path.is_file() and not path.is_dir():  # reading a pipe or a device might never end
            raise ArtefactError(f"{path}: is not a file; copy the tower's folder again.")
        if path.name.endswith("config.json"):
            check_configuration(path, _ANOTHER)
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if not single.exists() and not index.exists():
        others = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLED)
        pickled = f"; {', '.join(others)} could run code when it is read" if others else ""
        raise ArtefactError(
            f"{folder}: has no weights in safetensors (model.safetensors){pickled}. Save the model again with "
            "save_pretrained(folder), which writes safetensors."
        )
    for path in [single] if single.exists() else _shards(index):
        if not path.is_file():
            raise ArtefactError(f"{path}: is missing; copy the tower's folder again.")
        try:
            with safe_open(path, framework="pt"):
                pass
        except (OSError, SafetensorError) as error:
            raise ArtefactError(f"{path}: is cut short or no safetensors file ({error}); copy it again.") from error


def _shards(index: Path) -> list[Path]:
    """The files that an index names, which must be in its folder."""
    values = read_json(index, "the index of the weights")
    weights = values.get("weight_map") if isinstance(values, dict) else None
    if not isinstance(weights, dict) or not weights:
        raise ArtefactError(f"{index}: has no weight_map; copy the tower's folder again.")
    for shard in weights.values():
        if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise ArtefactError(
                f"{index}: names {shard!r}, but weights must be safetensors files of the same folder. {_ANOTHER}"
            )
    return [index.with_name(shard) for shard in sorted(set(weights.values()))]


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
        ArtefactError: The configuration asks for remote code.
    """
    import transformers

    # An auto_map is without effect here: only a class of transformers itself is built.
    harmful = {key: value for key, value in values.items() if key != "auto_map"}
    refuse_remote_code(harmful, "the configuration of the model's tower", _ANOTHER)
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
        preprocess = Preprocess.from_transformers(values)
    except SwclipError:
        raise
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise _unavailable(name, error) from error
    if size_px is None:
        return preprocess
    # The shorter side before the crop scales with it, so that the crop contains as much of the photograph.
    shortest = preprocess.shortest_px and round(preprocess.shortest_px * size_px / preprocess.size_px)
    return dataclasses.replace(preprocess, size_px=size_px, shortest_px=shortest)
