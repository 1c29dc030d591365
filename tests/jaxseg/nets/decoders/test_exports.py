import subprocess
import sys
from pathlib import Path

import pytest

from jaxseg.nets import decoders
from jaxseg.nets.decoders.base import Decoder

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize("name", decoders.__all__)
def test_every_name_is_a_decoder_in_a_module_of_its_own(name):
    decoder = getattr(decoders, name)
    assert issubclass(decoder, Decoder)
    assert decoder.__name__ == name
    assert decoder.__module__ == f"jaxseg.nets.decoders.{decoders._MODULES[name]}"
    assert name in dir(decoders)


def test_all_names_are_mapped_and_others_are_refused():
    assert set(decoders._MODULES) == set(decoders.__all__)
    with pytest.raises(AttributeError, match="Linknet"):
        decoders.Linknet  # noqa: B018


def test_one_decoder_loads_its_own_file():
    others = {f"jaxseg.nets.decoders.{file}" for file in decoders._MODULES.values()}
    others.remove("jaxseg.nets.decoders.fpn")
    script = f"import sys; from jaxseg.nets.decoders import FPN; print({others} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
