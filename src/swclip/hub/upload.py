"""A model's folder to a hub: one commit, whole or not at all, and then downloaded again to be sure of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from swclip.errors import ConfigError, HubError, SwclipError
from swclip.files import sha256_of_file
from swclip.hub.folder import CARD_NAME, CONFIG_NAME, ModelFolder, check_folder
from swclip.models.download import BANK_FILE, MODEL_FILES, TOKENIZERS
from swclip.versions import own_version

_OURS = (*MODEL_FILES, BANK_FILE, CARD_NAME, CONFIG_NAME)
_AGAIN = "Give the same command again: files that have arrived are not sent again, and nothing half is visible."


@dataclass(frozen=True)
class Pushed:
    """What an upload came to.

    Attributes:
        url: Where the commit can be seen.
        commit: Its id; that of before where nothing had changed.
        before: The newest commit before; None where the repository was made now.
        removed: Files of an earlier model that the new one has not.
        verified: Whether it was downloaded again and found to be the same.
    """

    url: str
    commit: str
    before: str | None
    removed: tuple[str, ...]
    verified: bool

    @property
    def changed(self) -> bool:
        """Whether there was anything new to commit."""
        return self.commit != self.before


def push_folder(
    folder: ModelFolder,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    endpoint: str | None = None,
    verify: bool = True,
    say: Callable[[str], None] | None = None,
) -> Pushed:
    """Upload a folder that `write_model_folder` wrote as one commit.

    Files of an earlier model that the new one lacks (a bank, a tokenizer) are removed in the same commit: they would
    be read with the new weights. What else the repository holds stays.

    Args:
        folder: The folder.
        repo_id: owner/name; made if it is not there.
        private: Make it private. One that is there and public is refused, before anything is sent.
        revision: The branch; made if it is not there. None for main.
        message: Of the commit.
        endpoint: The hub's address; None for HF_ENDPOINT, else huggingface.co.
        verify: Download the commit again, compare every file, and load the model.
        say: Told what is done.

    Raises:
        HubError: There is no token, it may not write there, the hub cannot be reached or refuses.
        ConfigError: The address would send the token in clear text.
        ArtefactError: What was downloaded again is not what was sent.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token

    _check_endpoint(endpoint)
    token = get_token()
    if not token:
        raise HubError(
            "there is no token for the hub: set HF_TOKEN to one that may write, or log in with `hf auth login`."
        )
    tell = say or (lambda _: None)
    api = HfApi(endpoint=endpoint, token=token, library_name="swclip", library_version=own_version())
    with _told(f"{repo_id} at {api.endpoint}", token):
        before = _repository(api, repo_id, private, revision)
        there = set(api.list_repo_files(repo_id, revision=revision))
        removed = sorted(name for name in there - set(folder.files) if _is_ours(name))
        if before is not None:
            tell(f"{repo_id} is there, at commit {before[:12]}; the model goes on top of it")
        operations: list[Any] = [CommitOperationDelete(name) for name in removed]
        operations += [CommitOperationAdd(name, folder.path / name) for name in folder.files]
        tell(f"sending {len(folder.files)} files, {folder.size_bytes / 1e6:,.1f} MB")
        info = api.create_commit(
            repo_id,
            operations,
            commit_message=message or f"A model of swclip {own_version()}, {folder.fingerprint[:12]}",
            revision=revision,
            # Somebody else's commit in between is refused by the hub, not overwritten.
            parent_commit=before,
        )
        pushed = Pushed(str(info.commit_url), str(info.oid), before, tuple(removed), verify)
        if verify:
            tell("downloading it again to compare")
            _verify(api, repo_id, pushed.commit, folder)
    return pushed


def _repository(api: Any, repo_id: str, private: bool, revision: str | None) -> str | None:
    """Make repository and branch where they are not there; the newest commit before, None of a new repository."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = api.model_info(repo_id)
    except RepositoryNotFoundError:
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        info, new = api.model_info(repo_id), True
    else:
        new = False
    if private and not info.private:
        raise HubError(
            f"{repo_id}: is there and public, and --private was asked for; nothing was sent. Make it private in its "
            "settings on the hub, or choose another name."
        )
    if revision is not None:
        try:
            info = api.model_info(repo_id, revision=revision)
        except RevisionNotFoundError:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
            info = api.model_info(repo_id, revision=revision)
    return None if new else str(info.sha)


def _is_ours(name: str) -> bool:
    return name in _OURS or name.split("/")[0] in TOKENIZERS


def _verify(api: Any, repo_id: str, commit: str, folder: ModelFolder) -> None:
    """Download a commit into a folder of its own, compare every file, and load the model from it."""
    from huggingface_hub import snapshot_download

    with tempfile.TemporaryDirectory(prefix="swclip-verify-") as temporary:
        snapshot_download(
            repo_id,
            revision=commit,
            local_dir=temporary,
            endpoint=api.endpoint,
            token=api.token,
            allow_patterns=folder.files,
        )
        for name in folder.files:
            came = Path(temporary) / name
            if not came.is_file() or sha256_of_file(came) != sha256_of_file(folder.path / name):
                raise HubError(f"{repo_id}: {name} came back from the hub as another file than was sent. {_AGAIN}")
        check_folder(Path(temporary), folder.fingerprint)


def _check_endpoint(endpoint: str | None) -> None:
    if endpoint is None:
        return
    parts = urlsplit(endpoint)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")):
        return
    raise ConfigError(f"--endpoint {endpoint}: give an address that begins with https://, since a token is sent there.")


@contextmanager
def _told(where: str, token: str) -> Iterator[None]:
    """Turn what the hub's library raises into one message that says what to do."""
    try:
        yield
    except SwclipError:
        raise
    except Exception as error:
        raise HubError(f"{where}: {_reason(error).replace(token, '***')}") from None


def _reason(error: Exception) -> str:
    chain = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__) is not None and isinstance(below, Exception):
        chain.append(below)
    response = next((found for link in chain if (found := getattr(link, "response", None)) is not None), None)
    status = getattr(response, "status_code", None)
    if status == 401:
        return "the hub does not know the token; make a new one that may write, and set HF_TOKEN to it."
    if status == 403:
        return (
            "the token may not write there (403): take one with the right to write, or a name under your own account."
        )
    if status == 404:
        return "it is not there, or the token may not see it (404); check the name and the token's rights."
    if status in (409, 412):
        return f"somebody else committed in the meantime ({status}); nothing was changed. Give the same command again."
    if status == 413:
        return "the hub takes no file or commit as large as this (413); train with a smaller tower, or ask it for room."
    told = dict.fromkeys(" ".join(str(link).split()) or type(link).__name__ for link in chain)
    detail = "; ".join(text.rstrip(".") for text in told)[:300]
    if status == 400 or isinstance(error, ValueError):
        return f"the hub does not take it ({detail})."
    hint = "If this hub does not know Xet, set HF_HUB_DISABLE_XET=1. " if "xet-" in detail else ""
    return f"the upload was interrupted ({detail}). {hint}{_AGAIN}"
