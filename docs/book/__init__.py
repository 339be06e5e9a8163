"""The course as a folder of HTML pages: every notebook executed, readable from a disk without a network."""
