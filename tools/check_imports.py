"""The layers of the project, as a script. Exit code 1 with the imports and calls that break a rule.

    python tools/check_imports.py [ROOT]

    core (errors, config, clock, disk, serving)  <-  events  <-  sources, operators, sinks  <-  flows
    maps: core, events, and of the sinks only what reads; nobody imports flows.

- sources, operators and sinks don't import one another.
- Bytewax is imported in sources, sinks, flows and operators/stream.py: the engine stays at the edge.
- DuckDB is imported where the warehouse is read or rewritten: sinks/catalog.py, the sinks that rewrite tables, maps.
  Besides, the parsers use it, by events/engine.py. DuckDB's JSON reader takes half of the processor time of Polars'
  for the same lines, and it runs in memory there, without files and without state.
- Only clock.py asks what time it is, so that time is a parameter everywhere else.
- No assert outside tests: it vanishes under -O, and a user's mistake deserves an error with a remedy.
- pickle only in flows/recovery.py and flows/standstill.py, which read and change what Bytewax pickled.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

CORE = {"errors", "config", "clock", "disk", "serving"}
LAYERS = {
    "errors": set[str](),
    "config": {"errors"},
    "clock": {"errors"},
    "disk": set[str](),
    "serving": {"errors", "config"},
    "events": CORE,
    "sources": CORE | {"events"},
    "operators": CORE | {"events"},
    "sinks": CORE | {"events"},
    "maps": CORE | {"events", "sinks"},
    "flows": CORE | {"events", "sources", "operators", "sinks", "maps"},
}
READ_SIDE = {"catalog", "manifest", "storage", "views"}
BYTEWAX = ("sources/", "sinks/", "flows/", "operators/stream.py")
DUCKDB = (
    "sinks/catalog.py",
    "sinks/compaction.py",
    "sinks/rewriting.py",
    "flows/forgetting.py",
    "flows/backfill.py",
    "maps/",
    "events/engine.py",
)
LIBRARIES = {"bytewax": BYTEWAX, "duckdb": DUCKDB, "pickle": ("flows/recovery.py", "flows/standstill.py")}
WALL_CLOCK = {
    "time.time",
    "time.time_ns",
    "time.monotonic",
    "time.monotonic_ns",
    "time.perf_counter",
    "time.perf_counter_ns",
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
}


def check_module(text: str, name: str) -> list[str]:
    """List the rules that one module breaks; `name` is its path below the project, with slashes."""
    tree = ast.parse(text)
    problems = []
    for line, target in find_imports(tree):
        problem = judge_import(name, target)
        if problem:
            problems.append(f"{name}:{line}: {problem}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            problems.append(f"{name}:{node.lineno}: assert outside tests")
        if isinstance(node, ast.Attribute) and name != "clock.py" and _call_name(node) in WALL_CLOCK:
            problems.append(f"{name}:{node.lineno}: {_call_name(node)} outside clock.py")
    return problems


def find_imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and full name of everything that is imported, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, "." * node.level + (node.module or "")


def judge_import(name: str, target: str) -> str:
    """Say what is wrong with a module's import, or nothing."""
    layer = name.removesuffix(".py").partition("/")[0]
    head, _, rest = target.partition(".")
    if not head:
        return "relative import; name the package"
    if head in LAYERS and head != layer and head not in LAYERS[layer]:
        return f"{layer} must not import {head}"
    if layer == "maps" and head == "sinks" and rest.partition(".")[0] not in READ_SIDE:
        return f"maps only reads: sinks.{rest.partition('.')[0]} is not among {', '.join(sorted(READ_SIDE))}"
    if head == "time" and rest in {call.partition(".")[2] for call in WALL_CLOCK} and name != "clock.py":
        return f"{target} outside clock.py"
    places = LIBRARIES.get(head)
    if places is not None and not name.startswith(places):
        return f"{head} is imported only in {', '.join(places)}"
    return ""


def _call_name(node: ast.Attribute) -> str:
    value = node.value
    owner = value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else ""
    return f"{owner}.{node.attr}"


def find_modules(root: Path) -> Iterator[Path]:
    """Yield the modules of every layer."""
    for layer in LAYERS:
        yield from sorted((root / layer).rglob("*.py")) if (root / layer).is_dir() else [root / f"{layer}.py"]


def check_tree(root: Path) -> list[str]:
    """List every place of the project that breaks a rule."""
    return [
        problem
        for path in find_modules(root)
        for problem in check_module(path.read_text(encoding="utf-8"), path.relative_to(root).as_posix())
    ]


def main() -> int:
    """Print what is wrong; returns the exit code."""
    problems = check_tree(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
    print("\n".join(problems) or "imports: all within the rules")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
