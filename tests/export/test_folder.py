"""The exported folder: its content, the example of its README, and no incomplete or wrong exports."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from swclip.errors import ArtefactError, ConfigError, InputError, PackageError
from swclip.export import folder as module
from swclip.export import graph
from swclip.export.folder import example, export_model, recipe
from swclip.imaging.preprocess import Preprocess
from swclip.models.locator_model import LocatorModel

pytestmark = pytest.mark.slow

Make = Callable[..., LocatorModel]


@pytest.fixture(scope="module")
def exported(make_model: Make, photographs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of a dinov2 model with every option."""
    out = tmp_path_factory.mktemp("exported") / "onnx"
    model = make_model("dinov2", "bert", prompt="in {city} at {location}", image_side={"head_width": 64})
    said: list[str] = []
    export_model(model, out, photographs, location=True, words={"city": "York"}, report=said.append)
    assert said[0] == "writing image.onnx"
    model.save(out.parent / "model")
    return out


def test_what_is_in_it(exported: Path, make_model: Make) -> None:
    names = ["README.md", "export.json", "image.onnx", "location.onnx", "parity.json"]
    assert sorted(path.name for path in exported.iterdir()) == [*names, "preprocess.json"]
    record = json.loads((exported / "export.json").read_text())
    assert record["embedding_dim"] == 12
    assert record["graphs"]["image.onnx"]["input"] == {"name": "pixels", "shape": ["B", 3, 32, 32], "type": "float32"}
    assert record["graphs"]["location.onnx"]["output"]["shape"] == ["B", 12]
    assert record["notes"] == ["The words of the prompt are fixed in location.onnx: city='York'."]
    sums = []
    for name, described in record["graphs"].items():
        data = (exported / name).read_bytes()
        assert described["sha256"] == {name: hashlib.sha256(data).hexdigest()}
        assert described["bytes"] == len(data)
        sums.append(f"{name} {hashlib.sha256(data).hexdigest()}")
    assert record["digest"] == hashlib.sha256("\n".join(sorted(sums)).encode()).hexdigest()
    from swclip.models.locator_model import load_model

    assert record["fingerprint"] == load_model(exported.parent / "model").fingerprint


def test_writes_parity(exported: Path) -> None:
    parity = json.loads((exported / "parity.json").read_text())
    assert (parity["tolerance"], parity["photographs"]) == (1e-4, 5)
    assert parity["image.onnx"]["largest_difference"] < 1e-5
    assert set(parity["image.onnx"]["by_batch"]) == {"1", "3", "5"}
    assert parity["location.onnx"]["largest_difference"] < 1e-5
    assert set(parity["location.onnx"]["by_batch"]) == {"1", "7", "261"}
    readme = (exported / "README.md").read_text()
    assert f"{parity['image.onnx']['least_cosine']:.6f}" in readme


def _example_in(readme: Path) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", readme.read_text(), re.DOTALL)
    return str(code)


def _run(code: str, folder: Path) -> str:
    code += "\nimport sys\nassert not {'torch', 'swclip', 'safetensors'} & set(sys.modules)\n"
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_example_of_the_readme_matches_the_model(exported: Path, photographs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "onnx")
    code = _example_in(exported / "README.md")
    # The last line prints four numbers: print all for the comparison.
    code = code.replace("print(embedding[0, :4])", "print(embedding[0].tolist())")
    from swclip.models.locator_model import load_model

    model = load_model(exported.parent / "model")
    for path in photographs[2:4]:
        shutil.copy(path, tmp_path / "onnx" / "photo.jpg")
        with torch.no_grad():
            expected = model.encode_pixels(torch.from_numpy(model.preprocess.read(path))[None])[0].numpy()
        np.testing.assert_allclose(json.loads(_run(code, tmp_path / "onnx")), expected, atol=1e-5)


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(size_px=32, resize="squash", interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3),
        Preprocess(size_px=24, shortest_px=29),
        Preprocess(size_px=50),
        Preprocess(size_px=20, interpolation="lanczos", rescale=1.0, mean=(100.0, 110.0, 120.0), std=(60.0,) * 3),
    ],
)
def test_example_preprocesses_identically(
    preprocess: Preprocess, photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swclip.export.folder import preprocess_document

    (tmp_path / "preprocess.json").write_text(json.dumps(preprocess_document(preprocess)))
    code = example(preprocess).partition("session = ")[0]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    for path in photographs:
        pixels = names["pixels"](path)
        assert pixels.dtype == np.float32
        np.testing.assert_array_equal(pixels, preprocess.read(path))


def test_whole_pictures_are_exported_in_one_shape(make_model: Make, photographs: list[Path], tmp_path: Path) -> None:
    model, out = make_model(image_side={"crop": "whole"}), tmp_path / "onnx"
    with pytest.raises(ConfigError, match=r"1\.jpg: is 32 x 48 pixels preprocessed.* a graph takes one shape"):
        export_model(model, out, photographs[:2])
    record = export_model(model, out, photographs[:1])
    assert record["graphs"]["image.onnx"]["input"]["shape"] == ["B", 3, 32, 48]
    assert any("pictures of any shape" in note for note in record["notes"])
    readme = (out / "README.md").read_text()
    assert "Resize it to 48 x 32 pixels, which keeps its shape" in readme
    code = _example_in(out / "README.md").replace("print(embedding[0, :4])", "print(embedding[0].tolist())")
    shutil.copy(photographs[0], out / "photo.jpg")
    with torch.no_grad():
        expected = model.encode_pixels(torch.from_numpy(model.preprocess.read(photographs[0]))[None])[0].numpy()
    np.testing.assert_allclose(json.loads(_run(code, out)), expected, atol=1e-5)


def test_recipe_states_the_settings() -> None:
    words = " ".join(recipe(Preprocess(size_px=24, shortest_px=29)))
    for part in ("29 pixels", "24 x 24 pixels", "bicubic", "0.003921568627", "0.48145466", "(B, 3, 24, 24)"):
        assert part in words


def test_wrong_export_keeps_the_old_one(
    make_model: Make, photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = make_model(), tmp_path / "onnx"
    export_model(model, out, photographs[:2])
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(json.loads(before["parity.json"])["image.onnx"]["by_batch"]) == {"1", "2"}

    def write_other(model: LocatorModel, path: Path, opset: int, shape_px: tuple[int, int]) -> None:
        # A graph of slightly different weights.
        changed = make_model()
        with torch.no_grad():
            for weight in changed.image_head.parameters():
                weight += torch.linspace(-1e-3, 1e-3, weight.numel()).reshape(weight.shape)
        graph.write_image(changed, path, opset)

    monkeypatch.setattr(module, "write_image", write_other)
    with pytest.raises(ArtefactError, match=r"image.onnx: onnxruntime's embeddings differ .* but 0.0001 is allowed"):
        export_model(model, out, photographs[:2])
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("missing", [{"onnxruntime"}, {"onnx", "onnxscript", "onnxruntime"}])
def test_missing_packages_are_named_first(
    missing: set[str], make_model: Make, photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr("swclip.export.folder.find_spec", lambda name: None if name in missing else real(name))
    with pytest.raises(PackageError, match=r"needs .*onnxruntime; install them with: pip install 'swclip\[export\]'"):
        export_model(make_model(), tmp_path / "onnx", photographs)
    assert not list(tmp_path.iterdir())


def test_rejects_invalid_exports_first(make_model: Make, photographs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are none; name some with --photographs"):
        export_model(make_model(), tmp_path / "onnx", [])
    with pytest.raises(ConfigError, match="form 'cells'"):
        export_model(make_model(form="cells"), tmp_path / "onnx", photographs, location=True)
    (tmp_path / "note.txt").write_text("no photograph")
    with pytest.raises(InputError, match=r"note.txt: is not an image"):
        export_model(make_model(), tmp_path / "onnx", [tmp_path / "note.txt"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"mine: exists and contains no export.json"):
        export_model(make_model(), tmp_path / "mine", photographs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "note.txt"]
