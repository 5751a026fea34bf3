"""Answer of a command, to be shown or to be printed as JSON."""

from collections.abc import Callable
from dataclasses import dataclass

from imbsam.storage.texts import json_text


@dataclass(frozen=True)
class Answer:
    """Answer of a command.

    Args:
        content: Content, as plain JSON values.
        show: Function that prints it for people.
        code: Exit code.
    """

    content: object
    show: Callable[[], None]
    code: int = 0

    def give(self, *, as_json: bool) -> int:
        """Print the answer as text or as JSON.

        Returns:
            The exit code.
        """
        if as_json:
            print(json_text(self.content, default=str))
        else:
            self.show()
        return self.code
