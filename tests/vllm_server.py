"""A real vLLM on the processor, serving the tiny model of tests/toy_llm.py, from the environment beside ours."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from inference import serving
from tests import toy_llm

CONTEXT = 8192
START_SECONDS = 300
FOLDER = Path(f"{sys.prefix}-vllm")  # made by `make test`
INSTALLED = (FOLDER / ".installed").exists()  # else half of it may be there


class VLLM:
    """Started on 127.0.0.1 with the arguments that `manage.py llm` recommends. ``url`` is its base URL."""

    model = "toy"

    def __init__(self, folder: Path):
        self.folder = toy_llm.make(folder / "model")
        self.log = folder / "vllm.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        """Return once it answers; raises with the end of its log when it does not."""
        plan = serving.plan(str(self.folder), None, serving.shape(self.folder), CONTEXT)
        model, *arguments = plan.arguments
        # Its `vllm` command asks for a distribution of that name, which the build for processors is not.
        module = "vllm.entrypoints.openai.api_server"
        served = ["--model", model, "--served-model-name", self.model, *arguments]
        here = ["--host", "127.0.0.1", "--port", str(self.port), "--enforce-eager"]
        environment = os.environ | {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": "",
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [FOLDER / "bin" / "python", "-m", module, *served, *here],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"vLLM did not start:\n{self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.3)

    def answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        """End it and the engine it started."""
        if self._process and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels, such as "num_requests_running"."""
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=10).text
        values = re.findall(rf"^vllm:{name}(?:_total)?(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
        assert values, f"vLLM has no metric {name}"
        return sum(map(float, values))
