"""``python -m imbsam``."""

from imbsam.cli import main

main()
