"""Results of pieces on disk: one JSON file for each piece, card and version of the packages."""

import json
import re
from pathlib import Path

from launch.benchmarks.measuring.plan import Piece
from launch.storage.atomic import replacing


class Record:
    """The results of one card with one version of the packages.

    The result of a run belongs to no card: another card may have trained the first part of it.

    Args:
      folder: for all results.
      card: how many devices of which kind.
      versions: {package: version}.
    """

    def __init__(self, folder: Path, card: str, versions: dict[str, str]):
        self._folder, self._card, self._versions = folder / "results", card, versions

    def get(self, piece: Piece) -> dict | None:
        """The result of a piece; None if it has none, or one of other versions."""
        try:
            kept = json.loads(self._path(piece).read_text())
        except (FileNotFoundError, ValueError):
            return None
        same = kept.get("versions") == self._versions and kept.get("piece") == piece.name
        return kept["result"] if same else None

    def put(self, piece: Piece, result: dict) -> None:
        """Keeps the result of a piece, in place of an earlier one."""
        kept = {"piece": piece.name, "card": self._card, "versions": self._versions}
        with replacing(self._path(piece)) as working:
            working.write_text(json.dumps(kept | {"result": result}, indent=2) + "\n")

    def _path(self, piece):
        card = "any card" if piece.group == "runs" else self._card
        slug = lambda text: re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-")
        return self._folder / slug(card) / f"{slug(piece.name)}.json"
