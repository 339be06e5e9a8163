"""The page of the explorer: an engine that computes, views that draw, and two hosts, a file and a kernel."""
