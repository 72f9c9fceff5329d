"""Location-as-text: prompts, soft tokens in them, cells and their parents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from swclip.errors import ConfigError
from swclip.geo.cells import cell_ids, parent_cell
from swclip.models.config import LocationConfig, ModelConfig
from swclip.models.location_text import CellTokens, known_cells, prompt_fields, prompt_parts
from swclip.models.locator_model import LocatorModel
from swclip.models.towers import tokenize

MakeModel = Callable[..., LocatorModel]
HERE = torch.tensor([[53.80, -1.55], [53.801, -1.549], [53.96, -1.08]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("prompt", "location", "words", "parts"),
    [
        ("a photo at {location}", 4, {}, ["a photo at", 4]),
        ("{location} in {city}", 2, {"city": "York"}, [2, "in York"]),
        ("in {city} at {location}", 2, {"city": None}, ["in at", 2]),
        ("in {city} at {location}", 2, {}, ["in at", 2]),
        ("{street}, {city}: {location}.", 1, {"street": "High St", "city": "Ely"}, ["High St, Ely:", 1, "."]),
        ("at {location}", "5.1, 2.2", {}, ["at 5.1, 2.2"]),
    ],
)
def test_prompts_are_filled(prompt: str, location: Any, words: Any, parts: Any) -> None:
    assert prompt_parts(prompt, location, words) == parts


def test_fields_are_found() -> None:
    assert prompt_fields("in {city}, {street}, {city} at {location}") == ["city", "street"]


@pytest.mark.parametrize("text", ["builtin:small", "bert", "clip", "siglip"])
def test_soft_tokens_are_inserted_at_the_scale_of_words(text: str, make_model: MakeModel) -> None:
    model = make_model(text=text, prompt="photo taken at {location} in leeds", location_tokens=3, context_tokens=2)
    side = model.location.text
    assert side is not None
    caught: list[Tensor] = []
    # What reaches the layers is what the tower's word embedding gives after the hook that puts the tokens in. A hook
    # registered before it would see the words alone, so the tower's reading is watched from its first layer norm.
    embedding = side.tower.get_input_embeddings()  # type: ignore[operator]
    put: list[tuple[Tensor, Tensor]] = []
    read = side._read

    def reading(ids: Tensor, mask: Tensor, soft: Tensor, tokens: Tensor) -> Tensor:
        def late(_module: Any, _arguments: Any, output: Tensor) -> None:
            caught.append(output)

        register = embedding.register_forward_hook

        def register_and_watch(hook: Any) -> Any:
            handle = register(hook)
            watcher = register(late)  # after it, so it sees what the hook made

            class Both:
                def remove(self) -> None:
                    handle.remove()
                    watcher.remove()

            return Both()

        embedding.register_forward_hook = register_and_watch
        try:
            result = read(ids, mask, soft, tokens)
        finally:
            del embedding.register_forward_hook
        put.append((ids, soft))
        caught.append(tokens)
        return result

    side._read = reading  # type: ignore[method-assign]
    model.train().position_embeddings(HERE)
    (ids, soft), (embedded, tokens) = put[0], caught
    # Two context tokens before the words, three location tokens between "at" and "in": as many special tokens lead
    # as the tower has.
    lead = {"bert": 1, "clip": 1}.get(text, 0)
    places = [number - lead for number in torch.nonzero(soft[0]).flatten().tolist()]
    assert places == [0, 1, 5, 6, 7]
    torch.testing.assert_close(embedded[soft].reshape(3, 5, -1), tokens)
    torch.testing.assert_close(embedded[~soft], torch.nn.functional.embedding(ids, embedding.weight)[~soft])
    scale = embedding.weight.std().item()
    assert tokens.std().item() == pytest.approx(scale, rel=0.1)
    assert not torch.allclose(tokens[0, 2:], tokens[2, 2:], atol=scale / 10), "another place, other location tokens"
    torch.testing.assert_close(tokens[0, :2], tokens[2, :2])


@pytest.mark.parametrize("text", ["builtin:small", "bert", "clip", "siglip"])
@pytest.mark.parametrize("form", ["grid", "cells", "template"])
def test_words_have_an_effect_and_null_omits_them(text: str, form: str, make_model: MakeModel) -> None:
    model = make_model(text=text, form=form, prompt="a photo in {city} at {location}")
    plain = make_model(text=text, form=form, prompt="a photo in at {location}")
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        leeds, york, none, missing = (
            model.position_embeddings(HERE[:1], [words])[0]
            for words in ({"city": "leeds"}, {"city": "newcastle upon tyne"}, {"city": None}, {})
        )
        together = model.position_embeddings(
            HERE[:1].expand(4, -1),
            [{"city": "leeds"}, {"city": "newcastle upon tyne"}, {"city": None}, {"city": "leeds"}],
        )
        nothing = plain.position_embeddings(HERE[:1])[0]
    assert (leeds - york).abs().max() > 1e-4
    assert (leeds - none).abs().max() > 1e-4
    assert torch.equal(none, missing)
    torch.testing.assert_close(none, nothing, atol=1e-5, rtol=0)
    # A prompt is read the same whatever longer prompts stand beside it.
    torch.testing.assert_close(together, torch.stack([leeds, york, none, leeds]), atol=1e-5, rtol=0)


def test_each_distinct_position_is_encoded_once(make_model: MakeModel) -> None:
    for text, words in (("bert", None), ("bert", [{"city": "leeds"}] * 6), ("none", None)):
        model = make_model(text=text, prompt="in {city} at {location}" if words else "at {location}")
        counted: list[int] = []
        reached = model.location.text.tower if model.location.text else model.location.grid
        assert reached is not None

        def count(_module: Any, arguments: Any, named: Any, counted: list[int] = counted) -> None:
            counted.append(len(named["input_ids"] if named else arguments[0]))

        reached.register_forward_pre_hook(count, with_kwargs=True)
        order = [2, 0, 0, 1, 2, 2]
        model.train().position_embeddings(HERE[order], words)
        assert counted == [3]
        actual = model.eval().position_embeddings(HERE[order], words)
        assert torch.equal(actual[0], actual[4])
        assert torch.equal(actual[1], actual[2])
        single = torch.cat([model.position_embeddings(HERE[[row]], words and words[:1]) for row in order])
        torch.testing.assert_close(actual, single, atol=1e-6, rtol=0)
        assert (actual[0] - actual[1]).abs().max() > 1e-4


def test_the_template_contains_the_digits(make_model: MakeModel) -> None:
    model = make_model(text="builtin:small", form="template", prompt="at {location}.")
    assert model.location.text is not None
    prompts_seen: list[Any] = []
    original = model.location.text.forward

    def watch(prompts: Any, tokens: Any) -> Tensor:
        prompts_seen.append(prompts)
        return original(prompts, tokens)

    model.location.text.forward = watch  # type: ignore[method-assign]
    model.train().position_embeddings(torch.tensor([[-33.5, 151.123456], [2.0, -0.00001]], dtype=torch.float64))
    assert prompts_seen[0] == [
        ["at latitude -33.50000, longitude 151.12346."],
        ["at latitude 2.00000, longitude -0.00001."],
    ]
    assert tokenize("-33.5") == [ord(c) for c in "-33.5"]


def test_cells_fall_back_to_their_parents() -> None:
    resolutions = (5, 7, 9, 11)
    rng = np.random.default_rng(0)
    seen = np.array([53.8, -1.55]) + rng.uniform(-0.01, 0.01, (30, 2))
    positions = np.concatenate([seen[:5], np.array([53.8, -1.55]) + rng.uniform(-0.3, 0.3, (40, 2)), [[-33.0, 151.0]]])
    tokens = CellTokens(resolutions, known_cells(seen, resolutions), 4)
    row_of = {cell: row + 1 for row, cell in enumerate(tokens.cells)}
    assert set(row_of) == {parent_cell(cell, r) for r in resolutions for cell in cell_ids(seen, 11)}
    wanted = []
    for position in positions:
        row = []
        for level in range(4):
            at = 0
            for coarser in range(level + 1):  # the finest known cell at this level or above
                cell = parent_cell(cell_ids(position[None], 11)[0], resolutions[coarser])
                at = row_of.get(cell, at)
            row.append(at)
        wanted.append(row)
    actual = tokens.rows(torch.from_numpy(positions))
    assert actual == wanted
    assert all(row == [0, 0, 0, 0] for row in actual[-1:]), "another continent is nowhere known"
    assert any(0 < len(set(row)) < 4 for row in actual[5:]), "some cells are unseen"
    assert all(len(set(row)) == 4 for row in actual[:5]), "those trained on are all known"
    vectors = tokens(torch.from_numpy(positions))
    torch.testing.assert_close(vectors[7, 2], tokens.table.weight[wanted[7][2]] + tokens.level[2])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompt": "a photo"}, "has no {location}"),
        ({"form": "fourier"}, "set text_tower to 'none'"),
        ({"form": "template", "text_tower": "none"}, "give it a text tower"),
        ({"grid_levels": 0}, "at least one level"),
        ({"grid_coarsest_m": 10.0}, "0 < finest <= coarsest"),
        ({"form": "cells", "cell_resolutions": (4, 16)}, "from 0 to 15"),
        ({"form": "cells", "cell_resolutions": ()}, "from 0 to 15"),
    ],
)
def test_invalid_configurations_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("{", r"\{").replace("}", r"\}")):
        LocationConfig(**values)


def test_a_prompt_too_long_for_the_tower_is_refused(make_model: MakeModel) -> None:
    model = make_model(text="siglip", prompt="street " * 30 + "{location}")
    with pytest.raises(ConfigError, match=r"the prompt has 35 tokens, but the text tower reads 32"):
        model.position_embeddings(HERE)


def test_gradients_of_a_place_with_many_photographs_are_equal_with_two_threads() -> None:
    """A training with random batches has such places; atomic additions would give other last digits every time."""
    config = ModelConfig(location=LocationConfig(text_tower="none", hidden_width=16, grid_log2_size=6))
    model = LocatorModel.create(config, HERE).train()
    rows = torch.randint(len(HERE), (1024,), generator=torch.Generator().manual_seed(0))
    upstream = torch.randn(len(rows), config.embedding_dim, generator=torch.Generator().manual_seed(1))

    def gradients() -> list[Tensor]:
        weights = list(model.location.parameters())
        return list(torch.autograd.grad(model.position_embeddings(HERE[rows]), weights, upstream))

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first, *others = [gradients() for _ in range(6)]
    finally:
        torch.set_num_threads(threads)
    for other in others:
        assert all(torch.equal(one, two) for one, two in zip(first, other, strict=True))
