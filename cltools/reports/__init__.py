"""Comparisons, and tables of the records of runs and comparisons."""
