"""Options that several verbs share: which recipe values a person may set by a flag of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter


@Parameter(name="*")
@dataclass(frozen=True)
class RecipeOptions:
    """Values that replace a recipe's."""

    image_tower: str | None = None
    "A name on the model hub, a local folder, or builtin:small."
    text_tower: str | None = None
    "The same for the text side, or `none`."
    location: Literal["grid", "cells", "template", "fourier"] | None = None
    "How a position becomes an embedding. `fourier` reads no text."
    freeze: Literal["image", "none"] | None = None
    "`image` keeps the image tower as it is: its features are computed once and kept on disk."
    steps: int | None = None
    "Optimizer steps."
    batch_size: int | None = None
    "Photographs in a batch, of all processes together."
    size_px: int | None = None
    "Side of the picture the image tower sees, pixels."
    assignments: Annotated[list[str] | None, Parameter(name="--set")] = None
    "Any other value of the recipe, such as --set objective.neighbourhood.weight=0.5."

    def overrides(self, **more: Any) -> dict[str, Any]:
        """What `load_recipe` takes; `more` are further values by dotted key, `__` for the dot, None for not given."""
        from swclip.training.overrides import assigned, nested

        text_tower = "none" if self.location == "fourier" and self.text_tower is None else self.text_tower
        values: dict[str, Any] = {
            "model.image.tower": self.image_tower,
            "model.image.size_px": self.size_px,
            "model.location.text_tower": text_tower,
            "model.location.form": self.location,
            "freeze_image": None if self.freeze is None else self.freeze == "image",
            "steps": self.steps,
            "batch.size": self.batch_size,
            **{key.replace("__", "."): value for key, value in more.items()},
        }
        given = {key: value for key, value in values.items() if value is not None}
        return nested({**given, **assigned(self.assignments or [])})
