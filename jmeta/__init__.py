"""jmeta: learning across tasks in JAX."""

__version__ = "0.1.0"
