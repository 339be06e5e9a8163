"""The course as a folder of HTML pages: every notebook executed, readable from a disk without a network."""

from cltools.book.building import BookFlags, make_book

__all__ = ["BookFlags", "make_book"]
