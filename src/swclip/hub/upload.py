"""Upload of a model folder to a hub as one atomic commit, verified by downloading it again."""

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

_MODEL_FILE_NAMES = (*MODEL_FILES, BANK_FILE, CARD_NAME, CONFIG_NAME)
_RETRY = "Give the same command again: uploaded files are not sent again, and no incomplete model is visible."


@dataclass(frozen=True)
class Pushed:
    """Result of an upload.

    Attributes:
        url: Address of the commit.
        commit: Id of the commit; that of the previous commit if nothing changed.
        before: Id of the previous commit; None for a new repository.
        removed: Files of an earlier model that the new model does not have.
        verified: Whether the commit was downloaded again and compared.
    """

    url: str
    commit: str
    before: str | None
    removed: tuple[str, ...]
    verified: bool

    @property
    def changed(self) -> bool:
        """Whether the upload made a new commit."""
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
    """Upload a folder written by `write_model_folder` as one commit.

    Files of an earlier model that the new one lacks (a bank, a tokenizer) are removed in the same commit, because they
    would be loaded with the new weights. Other files of the repository are kept.

    Args:
        folder: The folder.
        repo_id: Repository owner/name; created if missing.
        private: Create a private repository. An existing public one is rejected before anything is sent.
        revision: The branch; created if missing. None for main.
        message: Commit message.
        endpoint: Address of the hub; None for HF_ENDPOINT, else huggingface.co.
        verify: Download the commit again, compare every file, and load the model.
        say: Called with progress messages.

    Raises:
        HubError: There is no token, it has no write access, or the hub cannot be reached, denies the upload, or returns
            different files.
        ConfigError: The endpoint would receive the token in clear text.
        ArtefactError: The downloaded model cannot be loaded.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token

    _check_endpoint(endpoint)
    token = get_token()
    if not token:
        raise HubError(
            "there is no token for the hub: set HF_TOKEN to one with write access, or log in with `hf auth login`."
        )
    tell = say or (lambda _: None)
    api = HfApi(endpoint=endpoint, token=token, library_name="swclip", library_version=own_version())
    with _hub_errors(f"{repo_id} at {api.endpoint}", token):
        before = _prepare_repository(api, repo_id, private, revision)
        existing = set(api.list_repo_files(repo_id, revision=revision))
        removed = sorted(name for name in existing - set(folder.files) if _is_model_file(name))
        if before is not None:
            tell(f"{repo_id} exists, at commit {before[:12]}; the model is added as a new commit")
        operations: list[Any] = [CommitOperationDelete(name) for name in removed]
        operations += [CommitOperationAdd(name, folder.path / name) for name in folder.files]
        tell(f"sending {len(folder.files)} files, {folder.size_bytes / 1e6:,.1f} MB")
        info = api.create_commit(
            repo_id,
            operations,
            commit_message=message or f"A model of swclip {own_version()}, {folder.fingerprint[:12]}",
            revision=revision,
            # The hub rejects the commit if another one was made in the meantime.
            parent_commit=before,
        )
        pushed = Pushed(str(info.commit_url), str(info.oid), before, tuple(removed), verify)
        if verify:
            tell("downloading it again to compare")
            _verify(api, repo_id, pushed.commit, folder)
    return pushed


def _prepare_repository(api: Any, repo_id: str, private: bool, revision: str | None) -> str | None:
    """Create repository and branch if missing; return the newest commit, or None for a new repository."""
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
            f"{repo_id}: exists and is public, but --private is given; nothing was sent. Make it private in its "
            "settings on the hub, or choose another name."
        )
    if revision is not None:
        try:
            info = api.model_info(repo_id, revision=revision)
        except RevisionNotFoundError:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
            info = api.model_info(repo_id, revision=revision)
    return None if new else str(info.sha)


def _is_model_file(name: str) -> bool:
    return name in _MODEL_FILE_NAMES or name.split("/")[0] in TOKENIZERS


def _verify(api: Any, repo_id: str, commit: str, folder: ModelFolder) -> None:
    """Download a commit into a temporary folder, compare every file, and load the model from it."""
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
            downloaded = Path(temporary) / name
            if not downloaded.is_file() or sha256_of_file(downloaded) != sha256_of_file(folder.path / name):
                raise HubError(f"{repo_id}: the hub returned another {name} than was sent. {_RETRY}")
        check_folder(Path(temporary), folder.fingerprint)


def _check_endpoint(endpoint: str | None) -> None:
    if endpoint is None:
        return
    parts = urlsplit(endpoint)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")):
        return
    raise ConfigError(
        f"--endpoint {endpoint}: give an address that begins with https://, because a token is sent to it."
    )


@contextmanager
def _hub_errors(where: str, token: str) -> Iterator[None]:
    """Convert errors of huggingface_hub to `HubError` with a message that says what to do, without the token."""
    try:
        yield
    except SwclipError:
        raise
    except Exception as error:
        raise HubError(f"{where}: {_reason(error).replace(token, '***')}") from None


def _reason(error: Exception) -> str:
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and isinstance(cause, Exception):
        chain.append(cause)
    responses = (getattr(link, "response", None) for link in chain)
    response = next((response for response in responses if response is not None), None)
    status = getattr(response, "status_code", None)
    if status == 401:
        return "the hub does not know the token; create a new one with write access, and set HF_TOKEN to it."
    if status == 403:
        return "the token has no write access (403): use one with write access, or a repository of your account."
    if status == 404:
        return "not found, or the token has no access (404); check the name and the token's rights."
    if status in (409, 412):
        return f"somebody else committed in the meantime ({status}); nothing was changed. Give the same command again."
    if status == 413:
        return "the hub rejects files or commits of this size (413); train with a smaller tower, or ask for more space."
    messages = dict.fromkeys(" ".join(str(link).split()) or type(link).__name__ for link in chain)
    detail = "; ".join(text.rstrip(".") for text in messages)[:300]
    if status == 400 or isinstance(error, ValueError):
        return f"the hub rejects the upload ({detail})."
    hint = "If this hub does not support Xet, set HF_HUB_DISABLE_XET=1. " if "xet-" in detail else ""
    return f"the upload was interrupted ({detail}). {hint}{_RETRY}"
