"""``python -m leasecap`` is ``leasecap``."""

from leasecap.cli.main import main

main()
