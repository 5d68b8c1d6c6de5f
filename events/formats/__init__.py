"""Formats beside Segment's: each module says how the records of one tool become canonical columns."""
