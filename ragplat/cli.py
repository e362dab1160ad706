"""Entry of `manage.py`: starts the embedded database where a command needs it, and turns errors into one line."""

import os
import sys
import warnings

from ragplat.errors import RagplatError

# Commands that never touch the database, so that they run anywhere and at once.
WITHOUT_DATABASE = {"help", "version", "--help", "-h", "--version", "check", "collectstatic", "compilemessages"}


def run(argv: list[str]) -> int:
    """Run a management command; the exit code is 0 only on success."""
    try:
        if needs_database(argv) and use_database() and argv[1] != "migrate":
            _execute([argv[0], "migrate", "--verbosity", "0"])
        return _execute(argv)
    except RagplatError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has left. Keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def needs_database(argv: list[str]) -> bool:
    words = argv[1:]
    return bool(words) and words[0] not in WITHOUT_DATABASE and not {"--help", "-h"} & set(words)


def use_database() -> bool:
    """Make DATABASE_URL name a running database: the one set, or the embedded one, started at need.

    True when the embedded one was made just now and has no tables yet.
    """
    if os.environ.get("DATABASE_URL", "").strip():
        return False
    from ragplat.database import start_embedded
    from ragplat.paths import var_dir

    url, new = start_embedded(var_dir())
    os.environ["DATABASE_URL"] = url
    return new


def _execute(argv: list[str]) -> int:
    from django.core.management import execute_from_command_line
    from django.db import OperationalError, ProgrammingError

    warnings.filterwarnings("ignore", message="Accessing the database during app initialization")
    try:
        execute_from_command_line(argv)
    except OperationalError as error:
        print(f"Error: the database does not answer: {_first_line(error)}", file=sys.stderr)
        return 1
    except ProgrammingError as error:
        if "does not exist" not in str(error):
            raise
        print(f"Error: {_first_line(error)}. Run `manage.py migrate` first.", file=sys.stderr)
        return 1
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"Error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}", file=sys.stderr)
        return 1
    return 0


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
