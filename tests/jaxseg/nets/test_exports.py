import subprocess
import sys
from pathlib import Path

import pytest

from jaxseg import nets

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", nets.__all__)
def test_every_name_is_a_net_in_a_module_of_its_own(name):
    net = getattr(nets, name)
    assert net.__name__ == name
    assert net.__module__ == f"jaxseg.nets.{nets._MODULES[name]}"
    assert name in dir(nets)


def test_all_names_are_mapped_and_others_are_refused():
    assert sorted(nets._MODULES) == nets.__all__
    with pytest.raises(AttributeError, match="Transformer"):
        nets.Transformer  # noqa: B018


def test_one_net_loads_its_own_files():
    script = (
        "import sys\n"
        "from jaxseg.nets import UNet\n"
        "print(sorted(name for name in sys.modules if name.startswith('jaxseg.nets.')))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    parts = "normalisation", "subpixel", "unet"
    assert done.stdout == f"{[f'jaxseg.nets.{name}' for name in parts]}\n", done.stderr
