# Sourced by tools/demo and tools/test: the project's own environment in .venv, made anew where it does not fit. $WHAT: what to install.
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "refk8s needs Python 3.11 or newer; set PYTHON to one" >&2; exit 2; }
if [ ! -x .venv/bin/python ]; then
    "$python" -m venv .venv || { echo "cannot make .venv: install your system's python3-venv" >&2; exit 2; }
fi
.venv/bin/python -m pip install -q --disable-pip-version-check -e "$WHAT"
PATH=$PWD/.venv/bin:$PATH
export PATH
