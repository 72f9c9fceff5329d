"""The public names of swclip, and a fast import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import swclip


def test_public_names() -> None:
    assert set(swclip.__all__) == {
        "Locator",
        "LocatorModel",
        "Manifest",
        "Prior",
        "Splits",
        "TrainingConfig",
        "__version__",
        "compare",
        "evaluate",
        "evaluate_predictions",
        "evaluate_vectors",
        "load",
        "load_recipe",
        "prepare",
        "read_area",
        "read_manifest",
        "read_splits",
        "train",
    }
    assert dir(swclip) == sorted(swclip.__all__)


@pytest.mark.parametrize("name", swclip.__all__)
def test_public_names_exist_and_are_documented(name: str) -> None:
    value = getattr(swclip, name)
    assert value == value.strip() if isinstance(value, str) else callable(value) and value.__doc__


def test_other_names_raise_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'embed'"):
        swclip.embed  # noqa: B018


def test_import_loads_no_heavy_packages() -> None:
    heavy = "{'torch', 'transformers', 'pandas', 'geopandas', 'matplotlib', 'plotly', 'numpy'}"
    code = f"import sys, swclip; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
