"""Files that are never torn, content that tells when it has changed, and signals held back."""
