"""Towers: the built-in small ones, and those of the model hub or a local folder.

Only safetensors and JSON are read, as of published models (`swclip.models.download`): nothing in a folder is unpickled
or executed.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn
from torch.nn import functional as F

from swclip.errors import ArtefactError, ConfigError, HubError, SwclipError
from swclip.files import read_json
from swclip.imaging.preprocess import Preprocess
from swclip.models.download import check_configuration, hub_options, is_repo_id, refuse_remote_code

PAD, PLACEHOLDER, UNKNOWN_WORDS = 0, 1, 8192
_FIRST_WORD = 128  # ids below are single ASCII characters: digits and punctuation are their own ids
_TOKEN = re.compile(r"[^\W\d_]+|\S")

# Families of checkpoints with two towers.
_TWO_TOWERS = ("clip", "siglip", "siglip2", "altclip", "chinese_clip")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
STREET_WEIGHTS = Path(__file__).with_name("street.safetensors")
"""Weights of `builtin:street`, which `benchmarks/street_tower.py` trains on generated cities."""
_STREET_SHA256 = "b9e757f9a210644112f8cf86c575113e6c6e447264a5c3854bc37bd2341ae1f2"
_ANOTHER = "Use another tower, or one from a source you trust that is saved as safetensors."


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
    stride_px = 16

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


def street_network() -> SmallConvNet:
    """The network of `builtin:street`: trained on generated cities, and part of the package.

    Raises:
        ArtefactError: The weights are missing, or not those that this version of the package has.
    """
    try:
        data = STREET_WEIGHTS.read_bytes()
    except OSError as error:
        raise ArtefactError(f"{STREET_WEIGHTS}: cannot be read ({error}); install swclip again.") from error
    if hashlib.sha256(data).hexdigest() != _STREET_SHA256:
        raise ArtefactError(f"{STREET_WEIGHTS}: is not the file of this version of swclip; install swclip again.")
    network = SmallConvNet()
    network.load_state_dict(load_safetensors(data))
    return network


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


def _unavailable(name: str, error: Exception) -> SwclipError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if Path(name).is_dir():
        return ConfigError(
            f"tower {name!r}: the folder has no usable model ({reason}). Give another, or builtin:street."
        )
    if not is_repo_id(name):
        return ConfigError(
            f"tower {name!r}: there is no such folder, and it is no name on the model hub (OWNER/NAME). Give a folder, "
            "a hub name such as facebook/dinov2-small, or builtin:street."
        )
    if hub_options(name):
        return HubError(
            f"tower {name!r}: there is no such folder, the hub cannot be reached, and the tower was not downloaded "
            "before; go online once, or give a local folder or builtin:street."
        )
    return HubError(f"tower {name!r}: the hub did not provide it ({reason}); check the name.")


def tower_from_name(name: str, side: Literal["vision", "text"]) -> nn.Module:
    """Load a pretrained tower; of a two-tower checkpoint (CLIP, SigLIP) one side.

    Args:
        name: A name on the model hub or a local folder.
        side: The side of a two-tower checkpoint: `vision` or `text`.

    Raises:
        ConfigError: It cannot be loaded, is not saved as safetensors, or asks for remote code; with the reason.
        HubError: The hub cannot be reached, or does not have it.
    """
    from transformers.models.auto.configuration_auto import AutoConfig
    from transformers.models.auto.modeling_auto import AutoModel
    from transformers.utils import cached_file, logging

    logging.disable_progress_bar()  # its bar would overwrite swclip's
    try:
        check_folder(Path(name))
        hub = hub_options(name)
        config = AutoConfig.from_pretrained(name, trust_remote_code=False, **hub)
        check_configuration(Path(str(cached_file(name, "config.json", **hub))), _ANOTHER)
        if weights := getattr(config, "transformers_weights", None):
            raise ArtefactError(f"tower {name!r}: its config.json names other weights, {weights!r}. {_ANOTHER}")
        model: nn.Module = AutoModel.from_pretrained(name, trust_remote_code=False, use_safetensors=True, **hub)
        return getattr(model, f"{side}_model") if config.model_type in _TWO_TOWERS else model
    except ArtefactError as error:
        raise ConfigError(str(error)) from error
    except Exception as error:  # of any class: the values of a folder's files reach all parts of transformers
        raise _unavailable(name, error) from error


def check_folder(folder: Path) -> None:
    """Check the files of a pretrained model before transformers reads them; nothing to check of a name on the hub.

    Raises:
        ArtefactError: The weights are not safetensors, are damaged or missing, or a configuration asks for code.
    """
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
    # An auto_map is without effect here: only a class of transformers itself is built.
    harmful = {key: value for key, value in values.items() if key != "auto_map"}
    refuse_remote_code(harmful, "the configuration of the model's tower", _ANOTHER)
    name = values["swclip_class"]
    cls = _public_class(name, values.get("model_type"))
    if cls is None:  # the inner transformer of a CLIP or SigLIP model is not a public name
        cls = _public_class(name.replace("Transformer", "Model"), values.get("model_type"))
    if not _is_tower(cls):
        raise ConfigError(
            f"this transformers release does not know {name}; install the release the model was saved with."
        )
    config = cls.config_class.from_dict({k: v for k, v in values.items() if k != "swclip_class"})
    model: nn.Module = cls._from_config(config) if hasattr(cls, "_from_config") else cls(config)
    return model


def _public_class(name: str, model_type: Any) -> Any:
    """A public name of transformers, None where it has none; it is looked for in the module of its model first, since
    the package itself reads the source of all models."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES, model_type_to_module_name

    if model_type in CONFIG_MAPPING_NAMES:
        folder = model_type_to_module_name(model_type)
        with suppress(ModuleNotFoundError):
            module = importlib.import_module(f"transformers.models.{folder}.modeling_{folder}")
            if name in getattr(module, "__all__", ()):
                return getattr(module, name)
    import transformers

    return getattr(transformers, name, None)


def _is_tower(cls: Any) -> bool:
    # The name comes from a file that may be untrusted: only model classes are built by it.
    from transformers.modeling_utils import PreTrainedModel

    return isinstance(cls, type) and issubclass(cls, PreTrainedModel)


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
        file = cached_file(name, "preprocessor_config.json", **hub_options(name))
        values = json.loads(Path(str(file)).read_text(encoding="utf-8"))
        preprocess = Preprocess.from_transformers(values)
    except SwclipError:
        raise
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise _unavailable(name, error) from error
    return preprocess if size_px is None else preprocess.at_size(size_px)
