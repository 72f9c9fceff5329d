"""`swclip recipes`: the recipes that `swclip train --recipe` takes by name."""

from __future__ import annotations

import cyclopts

from swclip.cli.help import OPTIONS

recipes = cyclopts.App(
    name="recipes",
    help="List the recipes of `swclip train`, or show one.",
    help_epilogue="swclip recipes COMMAND --help explains a command and shows examples of its use.",
    usage="Usage: swclip recipes COMMAND [OPTIONS]",
    group_parameters=OPTIONS,
)


@recipes.command(name="list")
def list_recipes() -> None:
    """List the recipes, with a line each.

    Examples:
        swclip recipes list
    """
    from swclip.cli.console import next_step
    from swclip.training.config import recipe_summaries

    summaries = recipe_summaries()
    width = max(map(len, summaries))
    for name, summary in summaries.items():
        print(f"{name:<{width}}  {summary}")
    next_step("recipes list", "swclip", "recipes", "show", "sw-clip")


@recipes.command
def show(recipe: str, /) -> None:
    """Print all values of a recipe as TOML, also those that it does not set.

    Args:
        recipe: Its name, or a TOML file.

    Examples:
        swclip recipes show sw-clip
        # a recipe of one's own: change values, then swclip train --recipe mine.toml
        swclip recipes show sw-clip > mine.toml
    """
    import tomli_w

    from swclip.cli.console import next_step
    from swclip.structure import as_plain, without_none
    from swclip.training.config import load_recipe, recipe_summaries

    if recipe in (summaries := recipe_summaries()):
        print(f"# {summaries[recipe]}")
    print(tomli_w.dumps(without_none(as_plain(load_recipe(recipe)))), end="")
    next_step("recipes show", f"swclip train MANIFEST --splits SPLITS --recipe {recipe} --out runs/first")
