"""Names of models on the hub, and their download.

Only safetensors, JSON and the plain word lists of tokenizers are fetched; nothing fetched is executed. A configuration
that asks for remote code is refused before anything is built from it.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from swclip.errors import ArtefactError, ConfigError, HubError

SCHEME = "hf://"
ENDPOINT_VARIABLE = "HF_ENDPOINT"
VECTOR_FILES = ("whitening.safetensors", "novelty.safetensors", "patches.safetensors")
"""Whitenings and patch features, of models that have them."""
MODEL_FILES = ("config.json", "preprocess.json", "model.safetensors", "posterior.json", "regions.json", *VECTOR_FILES)
"""Files of a published model, in the root of its repository; those after the weights only if there were validation
queries."""

BANK_FILE = "bank.safetensors"
TOKENIZERS = ("tokenizer", "caption_tokenizer")
"""Folders of a published model, if it has a pretrained text tower."""

_TOKENIZER_FILES = ("*.json", "*.txt", "*.model")
_PART = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?P<owner>{_PART})/(?P<name>{_PART})(?:@(?P<revision>[^@\s]+))?", re.ASCII)


@dataclass(frozen=True)
class HubName:
    """The name of a model on the hub.

    Attributes:
        repo_id: The repository, owner/name.
        revision: A branch, tag or commit; None for the newest.
    """

    repo_id: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{SCHEME}{self.repo_id}" + (f"@{self.revision}" if self.revision else "")


def is_repo_id(text: str) -> bool:
    """Whether a text is the name of a repository on a hub, owner/name.

    Example:
        >>> is_repo_id("ada/leeds"), is_repo_id("leeds"), is_repo_id("ada/leeds@v1"), is_repo_id("../leeds")
        (True, False, False, False)
    """
    match = _NAME.fullmatch(text)
    return match is not None and match["revision"] is None


def hub_name(model: str | os.PathLike[str]) -> HubName | None:
    """Parse a name on the hub; None if the argument is a path.

    `hf://owner/name` and `hf://owner/name@revision` are always names. Without the scheme, a path that exists takes
    precedence, and so does one whose first folder exists: `runs/frist` beside a folder `runs` is a typing error, and a
    request to the hub would disclose the name of a local folder. A `Path` is always a path.

    Args:
        model: A path or a name.

    Raises:
        ConfigError: It begins with hf:// and is not a valid name.

    Example:
        >>> hub_name("hf://ada/leeds@v1")
        HubName(repo_id='ada/leeds', revision='v1')
        >>> hub_name("no-such-folder/leeds"), hub_name("/runs/leeds"), hub_name("leeds")
        (HubName(repo_id='no-such-folder/leeds', revision=None), None, None)
    """
    if not isinstance(model, str):
        return None
    certain = model.startswith(SCHEME)
    match = _NAME.fullmatch(model.removeprefix(SCHEME))
    if certain and match is None:
        raise ConfigError(f"{model!r}: is not a name on the hub; write hf://OWNER/NAME or hf://OWNER/NAME@REVISION.")
    if match is None or (not certain and (Path(model).exists() or Path(match["owner"]).exists())):
        return None
    return HubName(f"{match['owner']}/{match['name']}", match["revision"])


def hub_address() -> str:
    """The address of the hub: HF_ENDPOINT, else huggingface.co."""
    return os.environ.get(ENDPOINT_VARIABLE) or "https://huggingface.co"


def hub_reachable(timeout_s: float = 3.0) -> bool:
    """Whether the hub accepts connections; True where a proxy is between, which alone can know it.

    Libraries of the hub try again for half a minute; this asks once.

    Args:
        timeout_s: Longest time to wait, seconds.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    address = urlsplit(hub_address())
    host, port = address.hostname or "", address.port or (443 if address.scheme == "https" else 80)
    if address.scheme in getproxies() and not proxy_bypass(host):
        return True
    try:
        socket.create_connection((host, port), timeout_s).close()
    except OSError:
        return False
    return True


def hub_options(name: str) -> dict[str, bool]:
    """Arguments of transformers for a tower: only what was downloaded before, where the hub cannot be reached."""
    return {"local_files_only": True} if is_repo_id(name) and not Path(name).exists() and not hub_reachable() else {}


def model_folder(model: str | os.PathLike[str], **hub: Any) -> Path:
    """The folder of a model: a path unchanged, a name on the hub as the downloaded folder.

    Args:
        model: A path, or a name as `hub_name` parses it.
        hub: Further arguments of `huggingface_hub.snapshot_download`, such as token and cache_dir.

    Raises:
        HubError: The hub cannot be reached and the model was not downloaded before, or it has no such model.
        ArtefactError: The repository does not contain a model of swclip, or its configuration asks for remote code.
    """
    name = hub_name(model)
    return Path(model) if name is None else download(name, **hub)


def download(name: HubName, **hub: Any) -> Path:
    """Download a model into the local cache of the hub; cached files are not downloaded again.

    The hub is the one in the environment variable HF_ENDPOINT, else huggingface.co.

    Args:
        name: The model.
        hub: Further arguments of `huggingface_hub.snapshot_download`.

    Returns:
        The folder of the snapshot.

    Raises:
        HubError: The hub cannot be reached and the model was not downloaded before, or it has no such model.
        ArtefactError: The repository does not contain a model of swclip, or its configuration asks for remote code.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    patterns = [*MODEL_FILES, BANK_FILE, *(f"{folder}/{kind}" for folder in TOKENIZERS for kind in _TOKENIZER_FILES)]
    settings = {"endpoint": os.environ.get(ENDPOINT_VARIABLE) or None, "revision": name.revision, **hub}
    try:
        folder = Path(snapshot_download(name.repo_id, allow_patterns=patterns, **settings))
    except RevisionNotFoundError as error:
        raise HubError(
            f"{name}: the hub has no revision {name.revision!r} of it; leave @... out for the newest."
        ) from error
    except RepositoryNotFoundError as error:
        raise HubError(
            f"{name}: the hub has no such model, or it is private and the token (HF_TOKEN) may not access it; there is "
            "no local folder of that name either."
        ) from error
    except LocalEntryNotFoundError as error:
        raise HubError(
            f"{name}: the hub cannot be reached and the model was not downloaded before ({_cause(error)}); go online "
            "once, or give a local folder."
        ) from error
    except Exception as error:
        # Errors of the library and of the HTTP library that it uses, which differs between releases.
        raise HubError(f"{name}: the download failed ({_cause(error)}); the same command resumes it.") from error
    if not (folder / "config.json").is_file():
        raise ArtefactError(f"{name}: is not a swclip model (config.json is missing).")
    check_harmless(folder)
    return folder


def check_harmless(folder: Path) -> None:
    """Refuse a model whose configuration would make transformers fetch or run code.

    Args:
        folder: The model's folder.

    Raises:
        ArtefactError: A configuration file asks for remote code.
    """
    files = [
        folder / "config.json",
        *(path for name in TOKENIZERS for path in sorted((folder / name).glob("*config.json"))),
    ]
    for path in files:
        check_configuration(path, "Use another model, or ask its owner to publish it with `swclip push`.")


def check_configuration(path: Path, remedy: str) -> None:
    """Refuse a configuration file that would make transformers fetch or run code.

    Args:
        path: The file.
        remedy: The end of the message.

    Raises:
        ArtefactError: It cannot be read, or asks for remote code.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))  # not `read_json`: tokenizers have integers of 31 digits
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: the model's configuration cannot be read ({error}). {remedy}") from error
    refuse_remote_code(values, str(path), remedy)


def refuse_remote_code(values: Any, where: str, remedy: str) -> None:
    """Raise ArtefactError if the values of a configuration, at any depth, would make transformers fetch or run code."""
    for key, value in _entries(values):
        # An implementation of attention or experts may be a repository of compiled kernels, owner/name.
        kernel = key.endswith("_implementation") and ("/" in json.dumps(value))
        if key in ("auto_map", "trust_remote_code") or kernel:
            raise ArtefactError(f"{where}: {key} = {value!r} asks for remote code, which swclip does not run. {remedy}")


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """All keys of nested mappings with their values."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key), inner
            yield from _entries(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _entries(inner)


def _cause(error: BaseException) -> str:
    """The innermost cause of an error, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:200]
