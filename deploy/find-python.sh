#!/bin/sh
# Prints a Python that this project can use; says what to do if there is none.
set -eu

for name in python3.11 python3.12 python3.13 python3; do
    if "$name" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
        command -v "$name"
        exit 0
    fi
done

echo "No Python 3.11, 3.12 or 3.13 with venv on the PATH." >&2
echo "Debian: apt-get install python3 python3-venv   macOS: brew install python@3.12" >&2
exit 1
