"""`python -m swclip` is `swclip`."""

from swclip.cli.app import main

main()
