"""House rules on size: lines of a file, lines and parameters of a function. Exit code 1 with the places that break one.

    python tools/check_sizes.py [ROOT]

A command of the command line is its options, so their number is not limited there. A test may be longer.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

SKIPPED = {".venv", "build", "dist", "notebooks"}
FILE_LINES = 350
FUNCTION_LINES = 45  # of its body, docstring included
TEST_LINES = 80
PARAMETERS = 6
COMMANDS = ("flows/cli_", "flows/demo.py")


def find_sources(root: Path) -> Iterator[Path]:
    """Yield every Python file of the project."""
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if not SKIPPED.intersection(parts) and not any(part.startswith(".") for part in parts):
            yield path


def check_file(path: Path, name: str) -> list[str]:
    """List where a file breaks a rule."""
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    problems = [f"{name}: {lines} lines, at most {FILE_LINES}"] if lines > FILE_LINES else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            problems += [f"{name}:{node.lineno}: {problem}" for problem in check_function(node, name)]
    return problems


def check_function(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> list[str]:
    """List the rules that a function breaks."""
    problems = []
    most = TEST_LINES if name.startswith("tests/") else FUNCTION_LINES
    length = (node.end_lineno or node.lineno) - node.body[0].lineno + 1
    if length > most:
        problems.append(f"{node.name} has {length} lines, at most {most}")
    arguments = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    count = len([argument for argument in arguments if argument not in ("self", "cls")])
    if count > PARAMETERS and not name.startswith(("tests/", *COMMANDS)):
        problems.append(f"{node.name} has {count} parameters, at most {PARAMETERS}")
    return problems


def check_tree(root: Path) -> list[str]:
    """List every place of the project that breaks a rule."""
    return [problem for path in find_sources(root) for problem in check_file(path, path.relative_to(root).as_posix())]


def main() -> int:
    """Print what is wrong; returns the exit code."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    problems = check_tree(root)
    print("\n".join(problems) or "sizes: all within the rules")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
