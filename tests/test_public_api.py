"""The public names of swclip, and its import time."""

from __future__ import annotations

import ast
import pydoc
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import swclip


def test_public_names() -> None:
    assert set(swclip.__all__) == {
        "Answer",
        "Gallery",
        "Locator",
        "LocatorModel",
        "Manifest",
        "Prior",
        "Splits",
        "TrainingConfig",
        "__version__",
        "benchmark",
        "build_gallery",
        "compare",
        "evaluate",
        "evaluate_predictions",
        "evaluate_vectors",
        "experiment",
        "fetch",
        "inspect",
        "load",
        "load_gallery",
        "load_recipe",
        "losses",
        "locate",
        "merge",
        "pack",
        "prepare",
        "read_area",
        "read_manifest",
        "read_splits",
        "recipes",
        "split",
        "split_each_city",
        "synth",
        "train",
    }
    assert dir(swclip) == sorted(swclip.__all__)


@pytest.mark.parametrize("name", swclip.__all__)
def test_public_names_exist_and_are_documented(name: str) -> None:
    value = getattr(swclip, name)
    if isinstance(value, str):
        assert value == value.strip()
    else:
        assert isinstance(value, ModuleType) or callable(value)
        assert value.__doc__


def test_losses_are_available_as_an_attribute() -> None:
    code = "import swclip; print(swclip.losses.SpatialContrastiveLoss.__name__)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "SpatialContrastiveLoss\n"


def test_unknown_names_raise_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'embed'"):
        swclip.embed  # noqa: B018


@pytest.mark.parametrize(
    ("wrong", "meant"), [("evalute", "evaluate"), ("Localizer", "Locator"), ("read_manifests", "read_manifest")]
)
def test_misspelt_name_suggests_the_correct_one(wrong: str, meant: str) -> None:
    with pytest.raises(AttributeError, match=f"has no attribute '{wrong}'; did you mean '{meant}'"):
        getattr(swclip, wrong)


def test_type_checkers_see_all_names() -> None:
    tree = ast.parse(Path(swclip.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen: dict[str, str] = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        seen |= {alias.asname or alias.name: f"{node.module}:{alias.name}" for alias in node.names}
    assert seen == {**swclip._HOMES, "losses": "swclip:losses"}


def test_calls_in_the_module_docstring_exist() -> None:
    assert swclip.__doc__ is not None
    calls = re.findall(r"swclip\.([a-zA-Z_]+)\(", swclip.__doc__)
    assert len(calls) >= 10
    assert set(calls) <= set(swclip.__all__)
    text = pydoc.render_doc(swclip, renderer=pydoc.plaintext)
    assert "build_gallery(model" in text


def test_import_loads_no_heavy_libraries() -> None:
    heavy = "{'torch', 'transformers', 'pandas', 'geopandas', 'matplotlib', 'plotly', 'numpy'}"
    code = f"import sys, swclip; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
