# Sourced by the scripts beside it, which set $root (the checkout) before.
#
# use_venv GROUP...: make or refresh the checkout's own virtual environment with these dependency groups and extras of
# pyproject.toml, and set $venv to its path. Your own environments, active or not, are neither used nor changed.
# find_python: set $python to $PYTHON, or else to the first one that is new enough.

use_venv() {
    find_python
    venv=$("$python" -I "$root/scripts/_venv.py" "$@") || exit 1
}

find_python() {
    # What a caller's shell says about Python is meant for another environment than this one.
    unset PYTHONPATH PYTHONHOME PYTHONSAFEPATH PYTHONDONTWRITEBYTECODE VIRTUAL_ENV
    for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
        # Running it is the only proof: a version manager's shim is on PATH without the version behind it.
        if "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            unset PYTHON  # meant for this script, and not for what it starts
            return
        elif [ -n "${PYTHON:-}" ]; then
            echo "${0##*/}: PYTHON is $PYTHON, which is no Python 3.11 or newer." >&2
            exit 1
        fi
    done
    echo "${0##*/}: leasecap needs Python 3.11 or newer, and none was found on PATH." >&2
    echo "  python3 is $(python3 --version 2>&1 | head -n 1 || :)" >&2
    echo "  Install a newer one (apt install python3, brew install python, https://python.org) and run this again." >&2
    exit 1
}
