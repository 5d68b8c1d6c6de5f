#!/bin/sh
# Makes .venv with the first Python that suits, and installs with exact versions. Quick when nothing changed.
#   tools/setup.sh run    what the command needs
#   tools/setup.sh dev    and what tests, checks and notebooks need
#   tools/setup.sh find   only print the Python that would be taken
# PYTHON=… names the Python to use.
set -eu
cd "$(dirname "$0")/.."
VENV=.venv
SUITS='import sys; raise SystemExit(0 if (3, 10) <= sys.version_info[:2] <= (3, 12) else 1)'
TELL='import platform; print(platform.python_version())'

fail() {
    printf 'error: %s\n  → %s\n' "$1" "$2" >&2
    exit 1
}

# A name on the path may be a pyenv shim that only says how to get that version, so each one is run.
runs() { "$1" -c "$2" >/dev/null 2>&1; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        runs "$PYTHON" "$TELL" || fail "PYTHON=$PYTHON does not run" "name a Python of version 3.10, 3.11 or 3.12"
        runs "$PYTHON" "$SUITS" || fail "PYTHON=$PYTHON is $("$PYTHON" -c "$TELL")" "journeystream needs Python 3.10, 3.11 or 3.12"
        echo "$PYTHON"
        return
    fi
    seen=""
    for name in python3.12 python3.11 python3.10 python3 python; do
        if runs "$name" "$SUITS"; then
            # Debian ships venv apart; another version may have it.
            if runs "$name" 'import ensurepip, venv'; then
                echo "$name"
                return
            fi
            seen="$seen $name (without venv: install $name-venv)"
        elif runs "$name" "$TELL"; then
            seen="$seen $name ($("$name" -c "$TELL"))"
        fi
    done
    fail "no Python 3.10, 3.11 or 3.12 with venv; found:${seen:- none}" \
        "install one (Debian, Ubuntu: apt install python3 python3-venv), or name it: make setup PYTHON=/path/to/python3.12"
}

MODE=${1:-dev}
[ "$MODE" = find ] && { find_python; exit; }
[ "$MODE" = dev ] && EXTRAS='[dev,notebooks]' || EXTRAS=''
STAMP=$(cat pyproject.toml constraints.txt | cksum | tr ' ' '-')

if runs "$VENV/bin/python" "$SUITS"; then
    MINOR='import sys; print(sys.version_info[:2])'
    if [ -n "${PYTHON:-}" ] && [ "$("$(find_python)" -c "$MINOR")" != "$("$VENV/bin/python" -c "$MINOR")" ]; then
        rm -rf "$VENV"
    fi
else
    rm -rf "$VENV"
fi
for done in "$MODE" dev; do
    [ "$(cat "$VENV/stamp-$done" 2>/dev/null || true)" = "$STAMP" ] && exit 0
done

if [ ! -d "$VENV" ]; then
    CHOSEN=$(find_python)
    echo "Making $VENV with $CHOSEN ($("$CHOSEN" -c "$TELL")) …"
    "$CHOSEN" -m venv "$VENV" || { rm -rf "$VENV"; fail "$CHOSEN can't make a virtual environment" "see the message above"; }
fi
echo "Installing; the first time this downloads a few hundred megabytes …"
rm -f "$VENV/stamp-run" "$VENV/stamp-dev"
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".$EXTRAS"
# The scanner's machine code is made now, so that no replay has to; there need be none.
"$VENV/bin/python" -m events.scanning || true
echo "$STAMP" >"$VENV/stamp-$MODE"
echo "Done: $VENV/bin/journeys"
