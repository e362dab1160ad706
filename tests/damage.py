"""What may happen to a follower's manifest behind its back."""

from pathlib import Path


def damage_manifest(folder: Path) -> None:
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"watermark": 7', '"watermark": 9'))


def cut_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"format": 1')


def remove_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()
