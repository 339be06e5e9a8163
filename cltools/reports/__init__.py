"""Comparisons, and tables of records: what runs and their comparisons are put together from."""
