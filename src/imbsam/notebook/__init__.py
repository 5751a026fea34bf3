"""How results and progress look in a notebook; Python's own library alone, so that every layer may use it."""
