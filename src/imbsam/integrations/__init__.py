"""The optimizers in other training frameworks, one module each; importing this package imports none of them."""
