"""Links and paths in the documentation exist, and docs/architecture.md lists the layers that import-linter checks."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "swclip"
PAGES = [page for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")) if "_build" not in page.parts]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub forms them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_exist(page: Path) -> None:
    broken = []
    for target, _, anchor in re.findall(r"\]\(([^)#\s]*)(#([^)]*))?\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(f"{target}#{anchor}")
    assert broken == []


def test_every_page_is_in_the_contents_of_the_site() -> None:
    docs, listed = ROOT / "docs", {ROOT / "docs" / "index.md"}
    for page in docs.rglob("*.md"):
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S):
            for line in re.findall(r"[^\s<>]+(?=>?$)", block, re.MULTILINE):  # PAGE, or TITLE <PAGE>
                listed |= set(page.parent.glob(f"{line}.md")) | set(page.parent.glob(f"{line}.ipynb"))
    pages = {*docs.rglob("*.md"), *docs.glob("*.ipynb")}
    missing = [str(page.relative_to(ROOT)) for page in pages - listed if "_build" not in page.parts]
    assert missing == [], (
        "add them to the toctree of tutorials.md, how-to.md, reference.md, explanation.md or project.md"
    )


def test_paths_of_the_architecture_page_exist() -> None:
    paths = re.findall(r"`([a-z_]+/[a-z_/-]+\.(?:py|toml))`", ARCHITECTURE)
    assert len(paths) > 40
    assert [path for path in paths if not (SOURCE / path).is_file()] == []


def test_the_architecture_page_names_every_package() -> None:
    rows = re.findall(r"^\| (`.*?) \|", ARCHITECTURE.split("## Layers")[0], re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == {folder.name for folder in SOURCE.iterdir() if (folder / "__init__.py").is_file()}


def test_the_layers_of_the_architecture_page_are_those_of_import_linter() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    section = ARCHITECTURE.split("## Layers")[1].split("\n## ")[0]
    listed = [line.replace("`", "") for line in re.findall(r"^\d+\. (.*)$", section, re.MULTILINE)]
    assert listed == [layer.replace("swclip.", "") for layer in layers]
