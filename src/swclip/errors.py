"""What swclip raises when the input, and not the code, is wrong.

Each message names the file, row, column or value and says what to do next. The command line prints the message
alone and exits with the error's `exit_code`; a program catches `SwclipError` for all of them.
"""

from __future__ import annotations


class SwclipError(Exception):
    """Base of every error that a user can fix."""

    exit_code = 1


class SwclipWarning(UserWarning):
    """Work goes on, and its outcome is probably not what was wanted."""


class InputError(SwclipError):
    """A file, folder, row, column or value given by the user cannot be used."""

    exit_code = 2


class ArtefactError(SwclipError):
    """Something swclip wrote earlier is missing, cut short, or of another version."""

    exit_code = 3


class MismatchError(SwclipError):
    """Two artefacts that must come from the same model, data or preprocessing do not."""

    exit_code = 4


class ConfigError(SwclipError):
    """A recipe, flag or option has a value that cannot work."""

    exit_code = 5


class DiskFullError(SwclipError):
    """The disk filled while an artefact was being written; nothing half-written was left in its place."""

    exit_code = 6


class UnreadableError(SwclipError):
    """Some of many photographs could not be read; the others were answered, and the answers say which."""

    exit_code = 7


class HubError(SwclipError):
    """A model hub cannot be reached, refuses, or does not have what is asked for."""

    exit_code = 8
