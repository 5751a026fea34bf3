"""Results and progress in a notebook. Needs Python's standard library alone, so that every layer may use it."""
