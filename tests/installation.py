"""An installation of the tests' own: real PostgreSQL under a temporary RAGPLAT_VAR_DIR.

A pytest plugin (`-p tests.installation`), so that it is there before Django reads its settings.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

VAR_DIR = Path(tempfile.mkdtemp(prefix="ragplat-test-"))
VAR_DIR.chmod(0o755)  # as root, the embedded PostgreSQL runs as a user of its own
atexit.register(shutil.rmtree, VAR_DIR, ignore_errors=True)  # runs last, after the server's own exit
for name in [name for name in os.environ if name.startswith("RAGPLAT_") and name != "RAGPLAT_DATA_DIR"]:
    del os.environ[name]
os.environ |= {"RAGPLAT_VAR_DIR": str(VAR_DIR), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

from ragplat.cli import use_database  # noqa: E402  (reads the environment set above)

use_database()
