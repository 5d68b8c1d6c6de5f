"""What a check found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One check: `differing` rows, up to ten of them as `examples`; `note` says what their columns mean."""

    name: str
    ok: bool
    differing: int = 0
    examples: tuple[dict[str, Any], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class CheckReport:
    """All checks of one manifest."""

    version: int
    epoch: int
    complete: bool
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Tell whether nothing differs."""
        return all(finding.ok for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {"ok": self.ok, **asdict(self)}
