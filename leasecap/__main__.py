"""``python -m leasecap`` is ``leasecap``."""

from leasecap.cli import main

main()
