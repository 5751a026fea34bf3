"""Every error the library raises on purpose. Each message says what was wrong, where, and what to do."""


class ImbsamError(Exception):
    """Base of all errors that a user can mend; the command prints the message alone and exits with 2."""


class PriorsError(ImbsamError, ValueError):
    """Class counts, targets or a tail rule that cannot be."""


class OptionError(ImbsamError, ValueError):
    """An option outside its range, unknown, or in conflict with another."""


class PassError(ImbsamError, RuntimeError):
    """The passes of a sharpness-aware step were used out of order."""


class NonFiniteError(ImbsamError, ArithmeticError):
    """A loss or a gradient was NaN or infinite; the weights are those before the step."""


class DataError(ImbsamError, ValueError):
    """Input data that cannot be read or used: names the file, row or column."""


class ModelError(ImbsamError, ValueError):
    """A model that is unknown, does not fit the data, or whose weights do not fit it."""


class RunError(ImbsamError, RuntimeError):
    """A run's folder that is missing, damaged, or belongs to other options."""


class PriorsWarning(UserWarning):
    """A tail rule that marks no class or every class."""


class DataWarning(UserWarning):
    """Data that was used, but not as it stands: rows skipped, values filled in."""


class RunWarning(UserWarning):
    """A run's folder that is damaged in part, and is used as far as it is whole."""


class RowsWarning(UserWarning):
    """A loss whose rows depend on each other, under a method that forwards a part of the batch."""
