"""`python -m flows` is `journeys`."""

from flows.cli import main

main()
