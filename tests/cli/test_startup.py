"""What the processes of commands leave out at their start, and that nothing else changes by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from swclip.api.answers import build_gallery
from swclip.models.locator_model import LocatorModel
from swclip.retrieval.locator import Locator

# Parts of libraries that answers do not use, or that only fits and reports do.
UNUSED = {
    *("geopandas", "lance_namespace_urllib3_client.api", "matplotlib", "scipy.stats", "sklearn", "sympy"),
    *("torch._dynamo.utils", "torch.distributed.tensor", "torch.export.exported_program"),
    *("scipy.optimize._optimize", "numpy.f2py.f2py2e", "overrides.enforce"),
    "lance_namespace_urllib3_client.models.alter_table_add_columns_request",
}
WITHOUT_TRANSFORMERS = UNUSED | {"transformers"}

pytestmark = pytest.mark.slow

_CODE = """
import atexit, gc, json, sys

def state():
    print(json.dumps({"modules": sorted(sys.modules), "collects": gc.isenabled()}), file=sys.stderr)
atexit.register(state)
from swclip.cli.app import main
main()
"""


def modules_after(*arguments: str | Path) -> tuple[set[str], str]:
    """The modules that a process of a command imported, and its standard output."""
    command = [sys.executable, "-c", _CODE, *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    state = json.loads(process.stderr.splitlines()[-1])
    assert state["collects"]
    return set(state["modules"]), process.stdout


def python(code: str, **environment: str) -> list[str]:
    """The lines that code prints, run in a process with lean imports."""
    whole = f"import sys\nfrom swclip.cli.startup import lean_imports\nlean_imports()\n{code}"
    command = [sys.executable, "-W", "error::ImportWarning", "-c", whole]
    process = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    assert process.returncode == 0, process.stderr
    return process.stdout.splitlines()


@pytest.fixture(scope="module")
def photograph(town: Path) -> Path:
    return sorted(town.glob("*.jpg"))[0]


@pytest.fixture(scope="module", params=["builtin:small", "dinov2"])
def gallery(
    request: pytest.FixtureRequest,
    make_model: Callable[..., LocatorModel],
    town: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, bool]:
    """A gallery, and whether its model has a tower of transformers."""
    model = make_model(request.param)
    path = tmp_path_factory.mktemp("startup") / "gallery"
    build_gallery(model, town / "manifest.parquet", path, cache=False)
    return path, request.param == "dinov2"


def test_locate_imports_no_unused_libraries_and_answers_the_same(gallery: tuple[Path, bool], photograph: Path) -> None:
    path, pretrained = gallery
    modules, shown = modules_after("locate", path, photograph, "--format", "json")
    assert "torch" in modules
    assert not modules & (UNUSED if pretrained else WITHOUT_TRANSFORMERS)
    (expected,) = Locator.from_gallery(path).locate([photograph], top_k=5)  # in this process, with all imports
    (answer,) = json.loads(shown)
    assert (answer["lat_deg"], answer["lon_deg"]) == (expected.lat_deg, expected.lon_deg)
    assert [candidate["probability"] for candidate in answer["candidates"]] == [
        candidate.probability for candidate in expected.candidates
    ]


def test_split_imports_no_model(town: Path, tmp_path: Path) -> None:
    modules, _ = modules_after("split", town, "--protocol", "known-places", "--out", tmp_path / "splits.parquet")
    assert not modules & {"torch", "transformers", "lancedb", "matplotlib", "scipy.stats"}


def test_deferred_packages_are_whole_once_they_are_used() -> None:
    lines = python(
        """
import transformers.models.dinov2.modeling_dinov2 as dinov2
from transformers.masking_utils import TransformGetItemToIndex
print([name in sys.modules for name in ("torch._dynamo.utils", "transformers.models.bert")])
with TransformGetItemToIndex():  # a class of the compiler, for which all of it is imported
    pass
import torch._dynamo.config
print(torch._dynamo.config is sys.modules["torch._dynamo"].config, "torch._dynamo.utils" in sys.modules)
print(torch._dynamo.disable.__module__)
import transformers
print(transformers.Dinov2Model is dinov2.Dinov2Model)
from transformers.distributed.utils import is_torch_distributed_available
print(is_torch_distributed_available())
import lance_namespace_urllib3_client as client
print(client.TableApi.__name__, client.__version__ == sys.modules["lance_namespace_urllib3_client"].__version__)
"""
    )
    assert lines == ["[False, False]", "True True", "torch._dynamo.decorators", "True", "False", "TableApi True"]


def test_functions_that_were_imported_from_a_deferred_package_execute_it() -> None:
    lines = python(
        """
from scipy.optimize import linear_sum_assignment
import torch, numpy
print([name in sys.modules for name in ("scipy.optimize._optimize", "torch.export.exported_program")])
print(linear_sum_assignment([[1.0, 0.0], [0.0, 1.0]], maximize=True)[1].tolist())
from scipy.optimize._zeros_py import brentq  # of a module of the package
import scipy.optimize
print(scipy.optimize.brentq is brentq, scipy.optimize.linear_sum_assignment is not linear_sum_assignment)
program = torch.export.export(torch.nn.Linear(2, 1), (torch.zeros(3, 2),))
print(tuple(program.module()(torch.zeros(3, 2)).shape), torch.export is sys.modules["torch.export"])
print(numpy.f2py.get_include().endswith("src"), "numpy.f2py.f2py2e" in sys.modules)
"""
    )
    assert lines == ["[False, False]", "[0, 1]", "True True", "(3, 1) True", "True True"]


def test_classes_that_were_imported_from_a_deferred_package_execute_it(tmp_path: Path) -> None:
    lines = python(
        f"""
import lancedb
print([name in sys.modules for name in ("lance_namespace_urllib3_client.models.json_error", "overrides.enforce")])
response = lancedb.connect({str(tmp_path)!r}).list_tables()
print(response.tables, isinstance(response, lancedb.db.ListTablesResponse))
import lance_namespace
print(type(response) is lance_namespace.ListTablesResponse, lancedb.db.namespace_connect is lance_namespace.connect)
print(lancedb.db.ListTablesResponse.from_dict({{"tables": ["a"]}}).tables)
from overrides import EnforceOverrides
print(EnforceOverrides.__name__)
"""
    )
    assert lines == ["[False, False]", "[] True", "True False", "['a']", "EnforceOverrides"]


def test_threads_that_use_a_deferred_package_at_the_same_time_have_the_whole_of_it() -> None:
    lines = python(
        """
from concurrent.futures import ThreadPoolExecutor
import scipy.optimize
def use(_):
    return scipy.optimize.minimize_scalar(lambda x: (x - 1) ** 2).success
with ThreadPoolExecutor(8) as pool:
    print(all(pool.map(use, range(8))))
"""
    )
    assert lines == ["True"]


def test_imports_of_large_libraries_are_left_out_of_collections() -> None:
    lines = python(
        """
import gc
before = gc.get_freeze_count()
import json.tool
small = gc.get_freeze_count()
import pandas
print(before == small, gc.get_freeze_count() - small > 10_000, gc.isenabled())
"""
    )
    assert lines == ["True True True"]


def test_models_know_of_several_devices_under_torchrun() -> None:
    code = "from transformers.distributed.utils import is_torch_distributed_available as known\nprint(known())"
    assert python(code, WORLD_SIZE="2") == ["True"]
