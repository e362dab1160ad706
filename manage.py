#!/usr/bin/env python
"""Ragplat's command line."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ragplat.settings")
    from ragplat.cli import run

    sys.exit(run(sys.argv))


if __name__ == "__main__":
    main()
