import subprocess
import sys
from pathlib import Path

import pytest

from jaxseg.nets import encoders

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize("name", encoders.__all__)
def test_every_name_is_an_encoder_in_a_module_of_its_own(name):
    encoder = getattr(encoders, name)
    assert encoder.__name__ == name
    assert encoder.__module__ == f"jaxseg.nets.encoders.{encoders._MODULES[name]}"
    assert name in dir(encoders)


@pytest.mark.parametrize("name", encoders.__all__)
def test_every_encoder_says_what_a_net_around_it_needs(name):
    encoder = getattr(encoders, name)()
    assert len(encoder.mean) == len(encoder.std) == 3
    assert list(encoder.strides) == sorted(encoder.strides)
    assert encoder.image_kernel.startswith("params/")
    assert encoder.namings


def test_all_names_are_mapped_and_others_are_refused():
    assert sorted(encoders._MODULES) == encoders.__all__
    with pytest.raises(AttributeError, match="VGG"):
        encoders.VGG  # noqa: B018


def test_one_encoder_loads_its_own_file():
    script = (
        "import sys\n"
        "from jaxseg.nets.encoders import ResNet\n"
        "names = {name.rpartition('.')[2] for name in sys.modules if 'encoders.' in name}\n"
        f"print(sorted(names & set({list(encoders._MODULES.values())})))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "['resnet']\n", done.stderr
