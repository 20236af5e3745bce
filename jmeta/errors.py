"""The one error that the command line shows as a sentence instead of a traceback."""

__all__ = ["InputError"]


class InputError(ValueError):
    """What came from outside cannot be used; the message is one line that says why.

    Raised for files, tables, targets and saved models, never for a mistake in jmeta.
    """
