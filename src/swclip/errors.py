"""Errors that users can fix.

Each message names the file, row, column or value and says what to do next. The command line prints only the message
and exits with the error's `exit_code`; programs catch `SwclipError`.
"""

from __future__ import annotations


class SwclipError(Exception):
    """Base class of all errors that a user can fix."""

    exit_code = 1


class SwclipWarning(UserWarning):
    """Work continues, but its outcome is probably not what the user intended."""


class InputError(SwclipError):
    """An input file, folder, row, column or value cannot be used."""

    exit_code = 2


class ArtefactError(SwclipError):
    """An artefact of swclip is missing, truncated, or of another version."""

    exit_code = 3


class MismatchError(SwclipError):
    """Two artefacts come from different models, data or preprocessing."""

    exit_code = 4


class ConfigError(SwclipError):
    """A recipe, flag or option has an invalid value."""

    exit_code = 5


class DiskFullError(SwclipError):
    """The disk is full; no incomplete artefact is left behind."""

    exit_code = 6


class UnreadableError(SwclipError):
    """Some photographs cannot be read; they are named, and the rest is done."""

    exit_code = 7


class HubError(SwclipError):
    """A model hub cannot be reached, denies access, or lacks the model."""

    exit_code = 8


class PackageError(SwclipError):
    """A package that only some commands need is not installed."""

    exit_code = 9


class ServiceError(SwclipError):
    """A service of images or places refuses, fails or cannot be reached; what was fetched is kept."""

    exit_code = 10


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without details for programmers.

    Example:
        >>> first_line(ValueError("cut short\\nat byte 7")), first_line(KeyError())
        ('cut short', 'KeyError')
    """
    return (str(error).splitlines() or [type(error).__name__])[0]
