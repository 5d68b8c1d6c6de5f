"""Puts everything together: the dataflow, recovery, settings, the command line."""

import os

# Read by libraries when they are loaded, so they are set before anything else is imported. Memory that Polars gives
# back is kept for ten seconds, and Arrow takes its own from the system's allocator, which keeps some: getting it anew
# from the system was a seventh of a replay's processor time. BLAS, which nothing here uses, would start threads.
os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:10000,muzzy_decay_ms:10000")
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
