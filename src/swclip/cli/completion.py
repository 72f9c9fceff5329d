"""`swclip completion`: the completion script of a shell."""

from __future__ import annotations

from typing import Literal

_FILES = {
    "bash": "~/.local/share/bash-completion/completions/swclip",
    "zsh": "~/.zfunc/_swclip",
    "fish": "~/.config/fish/completions/swclip.fish",
}


def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print the script that completes commands and options in a shell.

    Write it to the file that the shell reads, and start a new shell. For zsh, ~/.zshrc must add the folder to fpath
    before compinit: fpath=(~/.zfunc $fpath).

    Args:
        shell: The shell.

    Examples:
        swclip completion bash > ~/.local/share/bash-completion/completions/swclip
        swclip completion zsh > ~/.zfunc/_swclip
        swclip completion fish > ~/.config/fish/completions/swclip.fish
    """
    from swclip.cli.app import app
    from swclip.cli.console import next_step

    print(app.generate_completion(prog_name="swclip", shell=shell))
    next_step("completion", f"write this to {_FILES[shell]}, and start a new {shell}")
