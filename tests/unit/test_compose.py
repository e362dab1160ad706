"""docker-compose.yml is valid, and runs what exists."""

import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def services() -> dict:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def test_the_file_follows_the_compose_specification():
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(ROOT / "docker-compose.yml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_command_is_there():
    for name, service in services().items():
        command = service.get("command", [])
        if "manage.py" in command:
            found = list(ROOT.glob(f"*/management/commands/{command[-1]}.py"))
            assert found, f"{name} runs `{command[-1]}`, which is no command"


def test_only_the_web_server_is_reachable_and_only_from_this_machine():
    published = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert set(published) == {"web"}
    assert all(port.startswith("127.0.0.1:") for port in published["web"])


def test_the_language_model_needs_its_profile():
    assert services()["vllm"]["profiles"] == ["gpu"]
