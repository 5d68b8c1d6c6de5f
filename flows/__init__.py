"""The dataflows that join sources, operators and sinks, and the settings they run with."""
