"""`python -m swclip` is `swclip`."""

from swclip.cli.app import main

if __name__ == "__main__":  # processes that decode photographs import this file
    main()
