"""Errors that the library raises on purpose. Each message says what was wrong, where, and what to do."""


class ImbsamError(Exception):
    """Base class of all errors that the user can correct; the command prints only the message and exits with 2."""


class PriorsError(ImbsamError, ValueError):
    """Invalid class counts, targets or tail rule."""


class OptionError(ImbsamError, ValueError):
    """Option that is out of its range, unknown, or in conflict with another."""


class PassError(ImbsamError, RuntimeError):
    """Passes of a sharpness-aware step that were used out of order."""


class NonFiniteError(ImbsamError, ArithmeticError):
    """Loss or gradient that is NaN or infinite; the weights are those from before the step."""


class DataError(ImbsamError, ValueError):
    """Input data that cannot be read or used; the message names the file, row or column."""


class ModelError(ImbsamError, ValueError):
    """Model that is unknown, does not fit the data, or whose weights do not fit it."""


class RunError(ImbsamError, RuntimeError):
    """Folder of a run that is missing, damaged, or belongs to other options."""


class PriorsWarning(UserWarning):
    """Tail rule that marks no class or every class."""


class DataWarning(UserWarning):
    """Data that were changed before use: rows skipped, values filled in."""


class RunWarning(UserWarning):
    """Folder of a run that is damaged in part, and used as far as it is intact."""


class RowsWarning(UserWarning):
    """Loss whose rows depend on each other, under a method that forwards a part of the batch."""
