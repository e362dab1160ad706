"""`manage.py llm [MODEL]`: how to have vLLM write the answers on this machine."""

import json as jsonlib
import os
import shlex
import shutil
from dataclasses import asdict
from pathlib import Path

from django.conf import settings
from django.core.management import BaseCommand

from inference import serving
from ragplat.errors import BadInput, Unavailable

PORT = 8001


class Command(BaseCommand):
    help = (
        "Print the recommended `vllm serve` line for a model and this machine's GPUs, with the arithmetic; with --run, "
        "run it. vLLM needs an environment of its own: python3 -m venv vllm && vllm/bin/pip install vllm."
    )

    def add_arguments(self, parser):
        parser.add_argument("model", nargs="?", default="", help=f"Name or folder of a model ({serving.MODEL}).")
        parser.add_argument("--context", type=int, default=serving.CONTEXT, help="Tokens of prompt and answer.")
        parser.add_argument("--port", type=int, default=PORT, help="Port on 127.0.0.1 (%(default)s).")
        parser.add_argument("--run", action="store_true", help="Run the line: `vllm` has to be on the PATH.")
        parser.add_argument("--json", action="store_true", help="Print the line and its reasons as JSON.")

    def handle(self, *args, model: str, context: int, port: int, run: bool, json: bool, **options):
        if context < 512:
            raise BadInput(f"--context is {context}; the rules and one source need 512 tokens at least.")
        model = model or settings.GENERATOR_MODEL or serving.MODEL
        plan = serving.plan(model, serving.gpu(), serving.shape(Path(model)), context)
        line = ["vllm", "serve", *plan.arguments, "--host", "127.0.0.1", "--port", str(port)]
        url = f"http://127.0.0.1:{port}/v1"
        if json:
            self.stdout.write(jsonlib.dumps(asdict(plan) | {"line": line, "url": url}, indent=1))
        else:
            for reason in plan.reasons:
                self.stdout.write(f"# {reason}")
            self.stdout.write(shlex.join(line))
            self.stdout.write(f"# Then start Ragplat with RAGPLAT_GENERATOR_URL={url}")
        if run:
            self.stdout.flush()
            _become(line)


def _become(line: list[str]) -> None:
    program = shutil.which(line[0])
    if program is None:
        raise Unavailable(
            "vLLM is not on the PATH. It needs an environment of its own: python3 -m venv vllm && vllm/bin/pip install "
            "vllm; then PATH=$PWD/vllm/bin:$PATH manage.py llm --run."
        )
    os.execv(program, line)
