"""Files that are never half written, content with a checksum, and signals that wait."""
