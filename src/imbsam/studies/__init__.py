"""Many runs: comparisons, searches, recipes, and the workers that make them."""
