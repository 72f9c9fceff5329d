"""`swclip doctor`: whether this machine has what swclip needs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

_PURPOSES = {
    "serve": "swclip serve",
    "export": "swclip export",
    "heic": "photographs in HEIC",
    "faiss": "indices of large galleries",
    "match": "keypoint matchers",
    "onnx": "image towers in ONNX",
    "ray": "many processors and machines",
    "tensorboard": "TensorBoard",
}
"""What the extras of the package are for; the others are for its development."""

_LEAST_FREE_GB = 1.0


@dataclass(frozen=True)
class Finding:
    """What was found about one thing.

    Attributes:
        name: The thing.
        state: `ok`; `note` if something optional is missing; `fault` if swclip cannot work.
        text: Versions and sizes, or what is missing and what to do.
    """

    name: str
    state: Literal["ok", "note", "fault"]
    text: str


def doctor(*, format: Literal["text", "json"] = "text") -> int:
    """Check versions, device, memory, cache, hub and extras.

    The exit code is 1 if there is a fault: a package that is missing or too old, or a cache that cannot be written.
    Missing extras, a hub that cannot be reached and the lack of a GPU are notes.

    Args:
        format: text, or json: a list of objects with name, state and text.

    Examples:
        swclip doctor
        swclip doctor --format json > machine.json
    """
    import json

    from swclip.cli.console import next_step

    findings = list(_findings())
    if format == "json":
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            print(f"{finding.state:<5}  {finding.name:<{width}}  {finding.text}")
    faults = [finding for finding in findings if finding.state == "fault"]
    if faults:
        next_step("doctor", f"{faults[0].name}: {faults[0].text}")
    else:
        next_step("doctor", "swclip", "demo")
    return 1 if faults else 0


def _findings() -> Iterator[Finding]:
    from importlib.metadata import version

    system = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("swclip", "ok", f"{version('swclip')}, {system}")
    yield from _packages()
    yield from _device()
    yield _memory()
    yield from _cache()
    yield _hub()


def _packages() -> Iterator[Finding]:
    """The packages that swclip requires, and those of its extras."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    def problem(requirement: Requirement) -> str | None:
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            return f"{requirement.name} is missing"
        return (
            None
            if requirement.specifier.contains(installed, prereleases=True)
            else f"{requirement.name} {installed} is not {requirement.specifier}"
        )

    requirements = [Requirement(text) for text in requires("swclip") or ()]
    needed = [item for item in requirements if item.marker is None or item.marker.evaluate({"extra": ""})]
    problems = [text for text in map(problem, needed) if text is not None]
    if problems:
        yield Finding("packages", "fault", f"{', '.join(problems)}; run: pip install --upgrade swclip")
    else:
        shown = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy", "lancedb"))
        yield Finding("packages", "ok", shown)
    for extra, purpose in _PURPOSES.items():
        of_extra = [item for item in requirements if item not in needed and _belongs(item, extra)]
        missing = [text for text in map(problem, of_extra) if text is not None]
        text = f"{', '.join(missing)}; run: pip install 'swclip[{extra}]'" if missing else "installed"
        yield Finding(f"for {purpose}", "note" if missing else "ok", text)


def _belongs(requirement: object, extra: str) -> bool:
    marker = getattr(requirement, "marker", None)
    return bool(marker is not None and marker.evaluate({"extra": extra}))


def _device() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:  # of any class: libraries of the system may be missing
        yield Finding("device", "fault", f"torch cannot be imported ({error}); install it again.")
        return
    threads = f"{os.cpu_count()} processors, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            values = torch.cuda.get_device_properties(number)
            yield Finding(
                "device", "ok", f"cuda:{number}, {values.name}, {values.total_memory / 2**30:.0f} GiB; {threads}"
            )
    elif torch.backends.mps.is_available():
        yield Finding("device", "ok", f"mps; {threads}")
    else:
        yield Finding("device", "note", f"cpu, no GPU; {threads}")


def _memory() -> Finding:
    try:
        page = os.sysconf("SC_PAGE_SIZE") / 2**30
        whole, free = page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return Finding("memory", "ok", "unknown on this system")
    return Finding("memory", "ok", f"{whole:.1f} GiB, {free:.1f} GiB free")


def _cache() -> Iterator[Finding]:
    """The cache of image features: whether it can be written, its size, and the free space."""
    import shutil
    import tempfile

    from swclip.files import default_cache_folder

    folder = default_cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Finding(
            "cache", "fault", f"{folder} cannot be written ({error.strerror}); set SWCLIP_CACHE to another folder."
        )
        return
    free_gb = shutil.disk_usage(folder).free / 1e9
    state: Literal["ok", "fault"] = "ok" if free_gb >= _LEAST_FREE_GB else "fault"
    advice = "" if state == "ok" else "; free some space, or set SWCLIP_CACHE to another disk"
    yield Finding("cache", state, f"{folder}, {_size(folder) / 1e6:,.1f} MB; {free_gb:,.1f} GB free{advice}")


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:  # removed in the meantime
                continue
    return total


def _hub() -> Finding:
    from swclip.models.download import hub_address, hub_reachable

    if hub_reachable():
        return Finding("model hub", "ok", f"{hub_address()} can be reached")
    return Finding(
        "model hub",
        "note",
        f"{hub_address()} cannot be reached; towers must be local folders, downloaded before, or built in.",
    )
