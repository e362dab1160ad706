"""Where an installation keeps its state: everything lies under RAGPLAT_VAR_DIR."""

import hashlib
import os
import tempfile
from pathlib import Path

from ragplat.env import envstr

BASE_DIR = Path(__file__).resolve().parent.parent
LONGEST_SOCKET_PATH = 100  # the kernel's limit is 107 bytes; leave room for the file name's suffix


def var_dir() -> Path:
    """The folder of all state. Deleting it is a clean slate; two folders are two installations."""
    value = envstr("RAGPLAT_VAR_DIR", "var", "Folder of all state. Relative paths start at the project's folder.")
    return (BASE_DIR / Path(value).expanduser()).resolve()


def run_dir() -> Path:
    """The folder for sockets, made when missing; a short one under the temporary folder if `var` is too deep."""
    folder = var_dir() / "run"
    if len(os.fsencode(folder / "embed.sock")) > LONGEST_SOCKET_PATH:
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"ragplat-{os.getuid()}-{name}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
