"""One run: its folder, its loop, resuming, ranks, and what is done with a trained one."""
