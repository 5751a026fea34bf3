"""Failures of the machine in one sentence: no memory, or a file or folder that fails."""

from imbsam.storage.texts import printable


def sentence(error: Exception) -> str | None:
    """Describe a failure that the user can correct; ``None`` for a bug of the program, which needs a traceback.

    Args:
        error: Uncaught error.
    """
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or _no_memory(error):
        return (
            "there is not enough memory. Give fewer rows or smaller images at once (--batch-size, --image-size), a "
            "smaller model, or fewer --jobs; finished work is kept."
        )
    if isinstance(error, OSError):
        places = " and ".join(printable(str(name)) for name in (error.filename, error.filename2) if name is not None)
        return f"{places or 'a file'} cannot be used: {error.strerror or error}."
    if isinstance(error, RecursionError):
        return "the input is nested too deeply to be read. Simplify it."
    if isinstance(error, UnicodeError):
        return f"a text of the input is not in the encoding it should be ({error}). Convert it to UTF-8."
    return None


def _no_memory(error: Exception) -> bool:
    # torch has no class of its own for the CPU.
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)
