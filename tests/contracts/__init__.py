"""One contract for all kinds of live sources, run on each."""
