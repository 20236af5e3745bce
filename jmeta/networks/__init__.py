"""Flax modules; the only package that imports flax."""
