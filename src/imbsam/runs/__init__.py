"""One run: its folder, its training loop, resuming, ranks, and the use of the trained model."""
