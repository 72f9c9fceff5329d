"""The gallery in memory: its shapes, and parts of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from swclip.errors import InputError
from swclip.gallery.gallery import Gallery

Make = Callable[..., Gallery]


def test_inconsistent_shapes_are_refused(make_gallery: Make) -> None:
    g = make_gallery(9)
    parts = [g.candidate_ids, g.positions_deg, g.cities, g.location_embeddings, g.image_embeddings]
    with pytest.raises(InputError, match="image_rows"):
        Gallery(*parts, g.image_rows + 30, g.image_ids)
    with pytest.raises(InputError, match="positions_deg"):
        Gallery(g.candidate_ids[1:], *parts[1:], g.image_rows, g.image_ids)
    with pytest.raises(InputError, match="at least one candidate"):
        Gallery([], *parts[1:], g.image_rows, g.image_ids)
    with pytest.raises(InputError, match="image_hubness has shape"):
        replace(g, image_hubness=np.zeros(3, dtype=np.float32))


def test_a_subset_keeps_candidates_and_photographs_in_order(make_gallery: Make) -> None:
    gallery = make_gallery(4)
    hubness = np.random.default_rng(0).random(len(gallery.image_ids), dtype=np.float32)
    gallery = replace(gallery, image_hubness=hubness)
    rows = np.array([1, 3, 4, 9, 20])
    part = gallery.take(rows)
    assert part.candidate_ids == [f"c{row}" for row in rows]
    for new, row in enumerate(rows):
        assert part.image_ids_of(new) == gallery.image_ids_of(int(row))
        assert part.cities[new] == gallery.cities[row]
    photographs = [gallery.image_ids.index(image_id) for image_id in part.image_ids]
    np.testing.assert_array_equal(part.image_embeddings, gallery.image_embeddings[photographs])
    np.testing.assert_array_equal(part.image_hubness, hubness[photographs])


def test_taking_all_candidates_gives_the_gallery(make_gallery: Make) -> None:
    gallery = make_gallery(4)
    whole = gallery.take(np.arange(len(gallery)))
    assert whole.image_ids == gallery.image_ids
    assert np.array_equal(whole.image_embeddings, gallery.image_embeddings)
    assert whole.image_hubness is None


@pytest.mark.parametrize("in_order", [True, False])
def test_photographs_of_candidates_are_found_in_any_order_of_the_photographs(
    make_gallery: Make, in_order: bool
) -> None:
    gallery = make_gallery(4)
    order = np.argsort(gallery.image_rows, kind="stable") if in_order else np.arange(len(gallery.image_ids))[::-1]
    gallery = replace(
        gallery,
        image_embeddings=gallery.image_embeddings[order],
        image_rows=gallery.image_rows[order],
        image_ids=[gallery.image_ids[photograph] for photograph in order],
    )
    for rows in ([], [0], [3, 1], list(range(len(gallery)))):
        expected = np.flatnonzero(np.isin(gallery.image_rows, rows))
        np.testing.assert_array_equal(gallery.photographs_of(np.array(rows, dtype=np.int64)), expected)
