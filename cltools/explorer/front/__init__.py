"""The explorer's page: the engine, the views, and the entry scripts for its two hosts, a file and a kernel."""
