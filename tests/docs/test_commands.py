"""The options of all commands in the documentation exist, and the parts that the code writes can be written."""

from __future__ import annotations

import importlib.util

import pytest
from cyclopts import CycloptsError

from fixtures.doc_pages import PAGES, ROOT, blocks, indented_commands, swclip_arguments
from swclip.cli.app import app


def test_the_options_of_every_command_exist() -> None:
    wrong, checked = [], 0
    for page in PAGES:
        lines = [line for block in blocks(page) if block.language == "sh" for line in block.lines()]
        for line in [*lines, *indented_commands(page)]:
            for arguments in swclip_arguments(line):
                checked += 1
                try:
                    app.parse_args(arguments, print_error=False, exit_on_error=False)
                except CycloptsError as error:
                    wrong.append(f"{page.name}: {line}: {error}")
    assert wrong == []
    assert checked > 60


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("commands", ["--image-tower", "--commit-rows", "--rate-per-minute", "--region-limit-km2"]),
        ("python", ["swclip.Locator", "swclip.evaluate_vectors"]),
        ("python-losses", ["swclip.losses.SpatialContrastiveLoss", "swclip.losses.TargetConfig"]),
        ("recipe-keys", ['| `model.image.tower` | `"builtin:small"` |', "`objective.robust.cutoff`"]),
        ("recipes", ["### sw-clip-plus"]),
    ],
)
def test_generated_parts(part: str, expected: list[str]) -> None:
    pytest.importorskip("sphinx")
    spec = importlib.util.spec_from_file_location("generated_reference", ROOT / "docs" / "generated_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.GENERATORS[part]()
    assert [name for name in expected if name not in text] == []
