"""Every error a user can meet, as one tree; a message says where, what was wrong and what to do.

JourneyError                 exit code 1
├── UsageError               exit code 2: the command, a file name or the config is wrong
│   ├── ConfigError          journey.toml, with file, line and key
│   └── InputError           files that are missing, unreadable or of an unknown kind
├── SourceChangedError       a file vanished or changed between two runs of one job
├── DeadLetterLimitError     more records than allowed could not be read
├── InboxFullError           more records wait to be read than may; their sender has to come again
├── ReceiverError            a broker or an address that a live job receives from can't be used
├── SinkError                a topic that committed rows are sent to can't be used
└── WarehouseError           the folder can't be used as it is
    ├── WarehouseLockedError another job writes it
    ├── ConfigChangedError   the warehouse was made with settings that give other results
    ├── RecoveryError        the recovery store is damaged or does not fit
    └── FormatError          made by another version, or a file that it names is damaged
"""

from __future__ import annotations


class JourneyError(Exception):
    """Root of the tree; `exit_code` is what the command line returns."""

    exit_code = 1

    def __init__(self, problem: str, *, remedy: str = "") -> None:
        super().__init__(f"{problem}\n  → {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy


class UsageError(JourneyError):
    """The command, a file name or the config is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """A wrong key or value in journey.toml."""


class InputError(UsageError):
    """Files that are missing, unreadable or of an unknown kind."""


class SourceChangedError(JourneyError):
    """A file vanished or changed between two runs of one job."""


class DeadLetterLimitError(JourneyError):
    """More records than allowed could not be read."""


class InboxFullError(JourneyError):
    """More records wait to be read than may; their sender has to come again."""


class ReceiverError(JourneyError):
    """A broker or an address that a live job receives from can't be used."""


class SinkError(JourneyError):
    """A topic that committed rows are sent to can't be used."""


class WarehouseError(JourneyError):
    """The warehouse folder can't be used as it is."""


class WarehouseLockedError(WarehouseError):
    """Another job writes this warehouse."""


class ConfigChangedError(WarehouseError):
    """The warehouse was made with settings that give other results."""


class RecoveryError(WarehouseError):
    """The recovery store is damaged or does not fit."""


class FormatError(WarehouseError):
    """The warehouse was made by another version, or a file that it names is damaged."""
