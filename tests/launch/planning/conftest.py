import numpy as np
import pytest
from PIL import Image

from launch.planning import timing
from tests.launch.planning.small import TOOK


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Four images of 16 x 16 to train on, one to check on; a step takes 0.1 s."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(5):
        mask = np.zeros((16, 16), np.uint8)
        mask[:, :8] = 1
        image = np.full((16, 16, 3), 40 * number + 1, np.uint8)
        for kind, array in (("images", image), ("masks", mask)):
            path = tmp_path / "d" / ("val" if number > 3 else "train") / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    monkeypatch.setattr(timing, "measure", lambda config, data, limit: TOOK)
    return tmp_path / "d"
