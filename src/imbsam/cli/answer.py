"""What a command has found out, to be shown or to be printed as JSON."""

from collections.abc import Callable
from dataclasses import dataclass

from imbsam.storage.texts import json_text


@dataclass(frozen=True)
class Answer:
    """What a command has found out.

    Args:
        content: All of it, plain JSON values.
        show: Prints it for people.
        code: The exit code.
    """

    content: object
    show: Callable[[], None]
    code: int = 0

    def give(self, *, as_json: bool) -> int:
        """Print it one way or the other.

        Returns:
            The exit code.
        """
        if as_json:
            print(json_text(self.content, default=str))
        else:
            self.show()
        return self.code
