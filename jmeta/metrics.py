"""Scores of predictions, each for one task and under a mask.

Every function returns a finite number on any mask that holds a row, and 0 where the
mask is empty; probabilities are clipped at `EPS` inside logarithms.
"""
