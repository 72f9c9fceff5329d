"""A local hub with the part of the protocol that huggingface_hub uses to publish and load models.

It has repositories with commits and branches, tokens with permissions, small files in commits and large files in a
separate store (LFS: batch, upload, and redirected downloads). Uploads are hashed, and commits that name a missing large
file are rejected. Xet, the protocol of the hub's storage, is not supported: tests disable it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from uvicorn import Config, Server

from fixtures.service import running
from swclip.web.server import address_of, listen

WRITER, READER, STRANGER = "hf_of-ada-may-write", "hf_of-ada-may-read", "hf_of-bob-may-write"
_USERS = {WRITER: ("ada", True), READER: ("ada", False), STRANGER: ("bob", True)}


class Refused(Exception):
    """A request that the hub refuses, with the status, message and code of its response."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code

    def response(self) -> Response:
        headers = {"X-Error-Message": self.message, **({"X-Error-Code": self.code} if self.code else {})}
        return JSONResponse({"error": self.message}, self.status, headers=headers)


@dataclass
class Commit:
    """One state of a repository: its files by path, and the paths of large files."""

    oid: str
    files: dict[str, bytes]
    large: set[str]
    message: str


@dataclass
class Repository:
    """A model's repository."""

    private: bool
    branches: dict[str, list[Commit]]

    def at(self, revision: str) -> Commit:
        if revision in self.branches:
            return self.branches[revision][-1]
        for commit in (commit for commits in self.branches.values() for commit in commits):
            if commit.oid == revision:
                return commit
        raise Refused(404, "Invalid rev id", "RevisionNotFound")


@dataclass
class Fault:
    """A simulated failure: the next `times` requests whose line contains `pattern` get `status`."""

    pattern: str
    status: int
    times: int


@dataclass
class FakeHub:
    """The hub.

    Attributes:
        large_from: Size of the smallest large file, bytes.
        repositories: Repositories by owner/name.
        objects: Uploaded large files by their SHA-256.
        faults: Simulated failures.
        requests: Method and path of every request.
        corrupts_downloads: Whether downloads of large files have a flipped bit.
        store_requests_with_token: Number of requests for large files with a token, which must not be sent there.
    """

    large_from: int = 100_000
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    corrupts_downloads: bool = False
    store_requests_with_token: int = 0
    address: str = ""

    @property
    def store_address(self) -> str:
        """Address of large files, with another host name."""
        return self.address.replace("127.0.0.1", "localhost")

    def fail(self, pattern: str, status: int, times: int = 1) -> None:
        self.faults.append(Fault(pattern, status, times))

    def count_requests(self, pattern: str) -> int:
        return sum(pattern in line for line in self.requests)

    def head(self, repo_id: str, branch: str = "main") -> Commit:
        return self.repositories[repo_id].branches[branch][-1]

    def add(self, repo_id: str, files: dict[str, bytes], *, private: bool = False, branch: str = "main") -> Commit:
        """Commit files as another user."""
        repository = self.repositories.setdefault(repo_id, Repository(private, {}))
        commits = repository.branches.setdefault(branch, [])
        before = commits[-1].files if commits else {".gitattributes": b""}
        return self._commit(commits, {**before, **files}, set(), "by hand")

    def _commit(self, commits: list[Commit], files: dict[str, bytes], large: set[str], message: str) -> Commit:
        state = json.dumps([len(commits), message, {name: _sha256(data) for name, data in sorted(files.items())}])
        commits.append(Commit(hashlib.sha1(state.encode()).hexdigest(), files, large, message))
        return commits[-1]

    # Permissions.

    def _user(self, request: Request) -> tuple[str, bool] | None:
        return _USERS.get(request.headers.get("authorization", "").removeprefix("Bearer "))

    def _check_token(self, request: Request) -> None:
        if "authorization" in request.headers and self._user(request) is None:
            raise Refused(401, "Invalid credentials in Authorization header")

    def _repository(self, request: Request) -> tuple[str, Repository]:
        repo_id = f"{request.path_params['owner']}/{request.path_params['name']}"
        repository, user = self.repositories.get(repo_id), self._user(request)
        if repository is None or (repository.private and (user is None or user[0] != repo_id.split("/")[0])):
            raise Refused(404 if user else 401, "Repository not found", "RepoNotFound")
        return repo_id, repository

    def _writable(self, request: Request) -> tuple[str, Repository]:
        repo_id, repository = self._repository(request)
        self._check_writer(request, repo_id)
        return repo_id, repository

    def _check_writer(self, request: Request, repo_id: str) -> None:
        user = self._user(request)
        if user is None:
            raise Refused(401, "Invalid username or password.")
        if not user[1] or user[0] != repo_id.split("/")[0]:
            raise Refused(403, "You don't have the rights to write there")

    # The protocol.

    async def create(self, request: Request) -> Response:
        body = await request.json()
        user = self._user(request)
        repo_id = f"{body['organization'] or (user or ('nobody', False))[0]}/{body['name']}"
        self._check_writer(request, repo_id)
        if repo_id in self.repositories:
            raise Refused(409, "You already created this model repo")
        private = body.get("visibility") == "private" or bool(body.get("private"))
        self.repositories[repo_id] = Repository(private, {"main": []})
        self._commit(self.repositories[repo_id].branches["main"], {".gitattributes": b""}, set(), "initial commit")
        return JSONResponse({"url": f"{self.address}/{repo_id}", "id": repo_id, "name": repo_id})

    async def info(self, request: Request) -> Response:
        repo_id, repository = self._repository(request)
        commit = repository.at(unquote(request.path_params.get("revision", "main")))
        siblings = [{"rfilename": name} for name in commit.files]
        return JSONResponse(
            {"id": repo_id, "sha": commit.oid, "private": repository.private, "siblings": siblings, "tags": []}
        )

    async def tree(self, request: Request) -> Response:
        _, repository = self._repository(request)
        commit = repository.at(unquote(request.path_params["revision"]))
        entries: list[dict[str, Any]] = []
        for name, data in commit.files.items():
            entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": _git_oid(data)}
            if name in commit.large:
                entry["lfs"] = {"oid": _sha256(data), "size": len(data), "pointerSize": 134}
            entries.append(entry)
        return JSONResponse(entries)

    async def validate(self, request: Request) -> Response:
        content = (await request.json())["content"]
        try:
            metadata = yaml.safe_load(content.split("---")[1])
            assert isinstance(metadata, dict)
        except (yaml.YAMLError, IndexError, AssertionError):
            return JSONResponse({"errors": [{"message": "no metadata"}], "warnings": []}, 400)
        return JSONResponse({"errors": [], "warnings": []})

    async def preupload(self, request: Request) -> Response:
        _, repository = self._writable(request)
        commit = repository.at(unquote(request.path_params["revision"]))
        files = []
        for file in (await request.json())["files"]:
            existing, mode = commit.files.get(file["path"]), "lfs" if file["size"] >= self.large_from else "regular"
            oid = None if existing is None else _sha256(existing) if mode == "lfs" else _git_oid(existing)
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return JSONResponse({"files": files})

    async def batch(self, request: Request) -> Response:
        self._writable(request)
        objects = []
        for item in (await request.json())["objects"]:
            upload = {"upload": {"href": f"{self.store_address}/store/{item['oid']}", "header": {}}}
            objects.append(dict(item) if item["oid"] in self.objects else {**item, "actions": upload})
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def store(self, request: Request) -> Response:
        data = await request.body()
        if _sha256(data) != request.path_params["oid"]:
            return Response(status_code=400)
        self.objects[request.path_params["oid"]] = data
        return Response()

    async def fetch(self, request: Request) -> Response:
        data = self.objects[request.path_params["oid"]]
        if self.corrupts_downloads:
            data = data[:-1] + bytes([data[-1] ^ 1])
        return Response(data, headers={"ETag": f'"{request.path_params["oid"]}"'})

    async def commit(self, request: Request) -> Response:
        repo_id, repository = self._writable(request)
        commits = repository.branches.get(unquote(request.path_params["revision"]))
        if commits is None:
            raise Refused(404, "Invalid rev id", "RevisionNotFound")
        head = commits[-1]
        files, large, message = dict(head.files), set(head.large), ""
        for line in (await request.body()).splitlines():
            value, key = json.loads(line)["value"], json.loads(line)["key"]
            if key == "header":
                message = value["summary"]
                if value.get("parentCommit") not in (None, head.oid):
                    raise Refused(412, "A commit has happened since. Please refresh and try again.")
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
                large.discard(value["path"])
            elif key == "lfsFile":
                if value["oid"] not in self.objects:
                    raise Refused(400, f"{value['path']} was never uploaded")
                files[value["path"]] = self.objects[value["oid"]]
                large.add(value["path"])
            elif key == "deletedFile":
                del files[value["path"]]
            else:
                raise Refused(400, f"{key} is not known")
        new = self._commit(commits, files, large, message)
        return JSONResponse({"commitUrl": f"{self.address}/{repo_id}/commit/{new.oid}", "commitOid": new.oid})

    async def branch(self, request: Request) -> Response:
        _, repository = self._writable(request)
        name, branches = unquote(request.path_params["branch"]), repository.branches
        if name in branches:
            raise Refused(409, "Reference already exists")
        branches[name] = list(branches["main"])
        return JSONResponse({})

    async def resolve(self, request: Request) -> Response:
        _, repository = self._repository(request)
        commit = repository.at(unquote(request.path_params["revision"]))
        name = request.path_params["path"]
        if name not in commit.files:
            raise Refused(404, "Entry not found", "EntryNotFound")
        data = commit.files[name]
        headers = {"X-Repo-Commit": commit.oid}
        if name in commit.large:
            headers |= {"X-Linked-Etag": f'"{_sha256(data)}"', "X-Linked-Size": str(len(data))}
            return RedirectResponse(f"{self.store_address}/store/{_sha256(data)}", 302, headers=headers)
        return Response(data, headers={**headers, "ETag": f'"{_git_oid(data)}"'})

    def app(self) -> Starlette:
        repo = "/api/models/{owner}/{name}"
        routes = [
            Route("/api/repos/create", self.create, methods=["POST"]),
            Route("/api/validate-yaml", self.validate, methods=["POST"]),
            Route(f"{repo}", self.info),
            Route(f"{repo}/revision/{{revision}}", self.info),
            Route(f"{repo}/tree/{{revision}}", self.tree),
            Route(f"{repo}/preupload/{{revision}}", self.preupload, methods=["POST"]),
            Route(f"{repo}/commit/{{revision}}", self.commit, methods=["POST"]),
            Route(f"{repo}/branch/{{branch}}", self.branch, methods=["POST"]),
            Route("/{owner}/{name}.git/info/lfs/objects/batch", self.batch, methods=["POST"]),
            Route("/store/{oid}", self.store, methods=["PUT"]),
            Route("/store/{oid}", self.fetch),
            Route("/{owner}/{name}/resolve/{revision}/{path:path}", self.resolve),
        ]
        inner = Starlette(routes=routes, exception_handlers={Refused: lambda _, refused: refused.response()})

        async def outer(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                return await inner(scope, receive, send)
            line = f"{scope['method']} {scope['path']}"
            self.requests.append(line)
            for fault in self.faults:
                if fault.times > 0 and fault.pattern in line:
                    fault.times -= 1
                    return await Response(status_code=fault.status)(scope, receive, send)
            request = Request(scope, receive)
            if scope["path"].startswith("/store/") and "authorization" in request.headers:
                self.store_requests_with_token += 1
            try:
                self._check_token(request)
            except Refused as refused:
                return await refused.response()(scope, receive, send)
            return await inner(scope, receive, send)

        return outer  # type: ignore[return-value]


@contextmanager
def serve_hub(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve a hub in a thread until the block ends."""
    listening = listen("127.0.0.1", 0)
    hub.address = address_of(listening)
    server = Server(Config(hub.app(), log_level="critical", lifespan="off", ws="none"))
    with running(server, listening):
        yield hub


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
