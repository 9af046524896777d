"""Play the acts. Exits with 1 when one of them did not show what leasecap promises."""

from __future__ import annotations

import argparse
import signal
import sys

from . import cap, feedback, machines, per_request
from .stage import DemoError, Screen, Stage

ACTS = [cap.play, feedback.play, per_request.play]


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Watch leasecap hold a cap.")
    parser.add_argument("--two-machines", action="store_true", help="two machines that share a cap by a Redis")
    acts = [machines.play] if parser.parse_args().two_machines else ACTS
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _: sys.exit(128 + caught))  # an exception, so that the stage is cleared
    screen = Screen(sys.stdout)
    broken = []
    try:
        for act in acts:
            with Stage(screen) as stage:
                broken += act(stage)
    except DemoError as error:
        broken.append(str(error))
    except KeyboardInterrupt:
        screen.progress("")
        return 128 + signal.SIGINT
    for line in broken:
        print(f"demo: {line}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
