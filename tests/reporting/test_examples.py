"""Choice of example queries and their photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.reporting.examples import examples_of, pick_examples


@given(
    st.lists(st.tuples(st.floats(0, 1e5), st.sampled_from("abcdefg")), min_size=1, max_size=40),
    st.integers(1, 5),
)
@settings(max_examples=50)
def test_no_example_is_repeated(rows: list[tuple[float, str]], count: int) -> None:
    error = [value for value, _ in rows]
    picked = pick_examples(error, [block for _, block in rows], count)
    shown = [row for kind in picked.values() for row in kind]
    assert len(shown) == len(set(shown)) == 3 * min(count, len(rows) // 3)
    if shown:
        assert max(error[row] for row in picked["best"]) <= max(error)
        assert error[picked["best"][0]] == min(error)
        assert max(error) == max(error[row] for row in picked["worst"])


def test_examples_come_from_different_blocks() -> None:
    picked = pick_examples([0.0, 0.1, 0.2, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0], list("aabcdefgh"), count=2)
    assert picked["best"] == [0, 2]


def test_examples_have_photographs_of_query_and_answer(made_up: Any, draw_photographs: Any, tmp_path: Path) -> None:
    evaluation = made_up(1, per_city=20)
    manifest = draw_photographs(evaluation, tmp_path)
    worst = examples_of(evaluation, manifest, count=2)["worst"][0]
    assert worst.error_m == evaluation.predictions["error_m"].max()
    assert worst.query.data_uri.startswith("data:image/jpeg;base64,")
    assert worst.answer is not None
    assert worst.answer.caption == "in the gallery, at the answer"
    (tmp_path / f"{worst.image_id}.jpg").unlink()
    gone = examples_of(evaluation, manifest, count=2)["worst"][0].query
    assert (gone.data_uri, "missing" in gone.caption) == ("", True)
