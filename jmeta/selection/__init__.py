"""Choosing among somebody's candidates, learnt from how they did on other tasks."""
