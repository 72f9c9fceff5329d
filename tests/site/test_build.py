"""The documentation site builds without a warning and without a network, and every option and key is on its pages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages. Outputs of notebooks are kept in docs/_build, from which unchanged ones are taken."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", folder / "doctrees"]
    done = subprocess.run(
        [*command, ROOT / "docs", folder / "html"],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg", "SWCLIP_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


def text(page: Path) -> str:
    """The text of a page, without tags."""
    return re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))


def test_every_command_has_its_options(site: Path) -> None:
    from swclip.cli.app import COMMANDS

    page = text(site / "commands.html")
    assert [name for name in COMMANDS if f"swclip {name}" not in page] == []
    options = ("--image-tower", "--freeze", "--commit-rows", "--rate-per-minute", "--region-limit-km2", "--licence")
    assert [option for option in options if option not in page] == []


def test_every_public_name_is_documented(site: Path) -> None:
    import swclip
    import swclip.losses

    page = (site / "python.html").read_text(encoding="utf-8")
    names = set(swclip.__all__) - {"losses", "__version__"}
    assert [name for name in names if f'id="swclip.{name}"' not in page] == []
    page = (site / "python-losses.html").read_text(encoding="utf-8")
    assert [name for name in swclip.losses.__all__ if f'id="swclip.losses.{name}"' not in page] == []


def test_every_key_of_a_recipe_is_explained(site: Path) -> None:
    from swclip.structure import as_plain
    from swclip.training.config import TrainingConfig

    def keys(values: dict[str, object], prefix: str = "") -> list[str]:
        return [
            key
            for name, value in values.items()
            for key in (keys(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}"])
        ]

    page = text(site / "recipes.html")
    wanted = keys(as_plain(TrainingConfig()))
    assert len(wanted) > 100
    assert [key for key in wanted if key not in page] == []


def test_the_pages_load_nothing_from_other_hosts(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|iframe|link)\b[^>]*?(?:src|href)="(https?:)?//([^"/]+)', page.read_text())
        assert loaded == [], page.name
