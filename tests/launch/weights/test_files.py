"""Files of weights of three kinds; PyTorch wrote two of those below."""

import base64
import io
import json
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest

from launch.config.errors import UserError
from launch.weights import files

EXPECTED = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "b": np.array([1.5]),
    "n": np.array(7),
}
# torch.save of EXPECTED by torch 2.13, as a ZIP and in the format before 1.6; compressed.
ZIPPED = (
    b"c-o~^&ui0A9DhmHw2RtqQ`c_(0B;@4E^V_mb81HzQHWrz2*pcC)7S>HWG{W)P!I>Q!ERF!6hS=tA1M9{p1gSSA|8"
    b"e(Z{khgOSUe_=<2pdUmmpI&ySb){k&EcW(a^p0_+<jU<_!k-Zoc^nWl!c-10+9mXhFpXsppsAjsAUUdyc-W~+@Lr"
    b"6UIeb7~ivR)<qvqtP|3riu)^<GAWdfrE55TaRN*2Ult>12R5@lPyO>cl|FpI8>)_4G&{=2Cw>Z7qSYAVEm2(6h@&"
    b"pU_zl3W&;jy>bhfDhK@|f?r^u=rr{dRMN>x{<fdxy1cE1P@RY~afXOyiZ|^EDI^Bk4^dwVWQ67%8S%pGylt@wQaE"
    b"v@oZ?*~B83fPP;J8<4!*q!4mSeYiTp6#V04IE|Nz64h<#U`v@O%wk=;o?QJaO~o(@zVyl+0@1^GJjF-g)F6IPQ{$"
    b")D^?+;4RBiIdUxjJ@UlBhhN{G5vyeOH!umxdj@t6PSq^4WiJ^vlBMENJd^}tpt1^o(pZ8%(7-6D^b9l}A;Tf(EKB"
    b"o8-8&hUiI8Ow59`-{Ot4smJ<vlETo0vUhL@!)$1vctu2t}30e|pZ!}Hw&ag^TLexAWUWCl2z4m--rQWhLe|4)VJe"
    b"Sdu^MFbK9^sa{W3bG^~`3=N(Sc(4f*KKF8ekzcI<M)4&Bg$Xiw(bq?zl)%-7XWYT9m6$o0v>DR;!(|}EaeVqgcpT"
    b"5K@>%yJXf0K1+iS5<?+Io%0jtR5CpM^ham98<!}4V=PdS-^;}ZKY|m%#4jI|!JbI5u(ZLHK9YStVpx><%B?*RjG8"
    b"|kQ9B^|)d4fS44e`7P@boT#C_I>&WC%XafJk<u*kA&}*!NLvK8g)?Zy1{yieL*-Y_R`QA?&LFw$FPHw#CH|cq|46"
    b"G;CF2+3DT(W-j-T!;$p{?XMqWyK!Z`<o?~sum8^xV|~o9SMS&U1MiO2NB"
)
UNZIPPED = (
    b"c-n1{$xa(V5Qb;7O`3fTOOQC)7Yiff<pc-BrIQfMr7zLQ9=AM=TGOtX8c-rx@&yEWh8%L_)$#^G;y?|?ERkDXHR|"
    b"e`@Bh1o&M&4PejnfOoZo%hC=Z=4e_hH0u!>^AvaEh=&;&;N7cx$iiNK}?F-tdEA!_N%sH@r$I5&b(5r6chpQxWQ0"
    b"e1jiQRJwYgeFGFaYwjxQV~L)d&0{YCh9?fduck>oT6&Gd?{5gM6d%iaS)dM6qQbxAInavbk|22B_{SS_82(Dq9|k"
    b"<)Y<Mya7VweV{O`aHYzgk#2ocBtGo4Dtw~X@RU43dvJ>=EvXlRcP&nllce!&7Q{3k6HGH@Y=;c}lNDoigN!*pO>>"
    b"jBA8L(0drV(aZFe_}rbYLzdFX34K$fO-DUkuE@F;J;g_A8CODlCL~Zj<n0CTw59QkIr)!;HOxu-byPCw2rM-?2Z_"
    b")LzKz|C5`w25dZ&H;G&-jfh(apIWe;P5OH_=?RAHNi1j5>|9ySoV~7p2jg?$`I~=tKRlpxNSk6v@#pXnjJ=+4"
)


def check(found):
    assert found.keys() == EXPECTED.keys()
    for name, array in EXPECTED.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


@pytest.mark.parametrize("content", [ZIPPED, UNZIPPED])
def test_files_of_pytorch_are_read_without_it(content, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(zlib.decompress(base64.b85decode(content)))
    check(files.read(path))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 200])
    with pytest.raises(UserError, match=r"weights.pth is not a .pth weights file, or damaged"):
        files.read(path)


def test_npz_and_safetensors(tmp_path):
    np.savez(tmp_path / "weights.npz", **EXPECTED)
    check(files.read(tmp_path / "weights.npz"))
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, array in EXPECTED.items():
        kind = {"float32": "F32", "float64": "F64", "int64": "I64"}[array.dtype.name]
        data = np.ascontiguousarray(array).tobytes()
        places = [len(body), len(body) + len(data)]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": places}
        body += data
    text = json.dumps(header).encode()
    path = tmp_path / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    check(files.read(path))
    for size in (0, 5, 40, len(text) + len(body)):
        path.write_bytes((struct.pack("<Q", len(text)) + text + body)[:size])
        with pytest.raises(UserError, match=r"is not a .safetensors weights file, or damaged"):
            files.read(path)


def test_a_damaged_npz(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez_compressed(path, a=np.arange(1000))
    whole = path.read_bytes()
    for damaged in (b"", whole[:300], whole[:100] + bytes(100) + whole[200:]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"is not a .npz weights file, or damaged"):
            files.read(path)


class Evil:
    def __reduce__(self):
        return print, ("this must not run",)


def test_a_pickle_runs_nothing(tmp_path, capsys):
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/data.pkl", pickle.dumps({"a": Evil()}))
    with pytest.raises(UserError, match=r"holds builtins.print, and not only tensors"):
        files.read(path)
    assert "must not run" not in capsys.readouterr().out


def test_a_tensor_beyond_its_storage_is_refused():
    tensor = files._Tensor(files._Storage("0", np.dtype("f4")), 1, (2, 2), (2, 1))
    np.testing.assert_array_equal(tensor.array(np.arange(5.0)), [[1, 2], [3, 4]])
    with pytest.raises(ValueError, match="beyond its storage"):
        tensor.array(np.arange(4.0))


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(-1, (2,), (1,)), (0, (-2,), (1,)), (0, (2,), (-1,)), (5, (1,), (1,)), (4, (2,), (1,))],
)
def test_views_that_cannot_be_are_refused(offset, shape, strides):
    tensor = files._Tensor(files._Storage("0", np.dtype("f4")), offset, shape, strides)
    with pytest.raises(ValueError, match="beyond its storage"):
        tensor.array(np.arange(5.0))


def test_an_empty_tensor_needs_no_storage():
    tensor = files._Tensor(files._Storage("0", np.dtype("f4")), 0, (0, 3), (3, 1))
    assert tensor.array(np.zeros(0)).shape == (0, 3)


def test_a_storage_is_not_mistaken_for_a_tensor():
    storage = files._Storage("0", np.dtype("f4"))
    tensor = files._Tensor(storage, 0, (), ())
    assert files._tensors({"a": tensor, "b": storage, "c": 3}) == {"a": tensor}
    with pytest.raises(ValueError, match="it holds a list, not tensors by name"):
        files._tensors([tensor])


def test_a_pickle_of_another_format_is_refused(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"".join(pickle.dumps(part) for part in (7, 1, {}, {}, [])))
    with pytest.raises(UserError, match="its first number is not that of PyTorch"):
        files.read(path)
    path.write_bytes(b"".join(pickle.dumps(part) for part in (files.MAGIC, 1, {}, {}, ["5"])))
    with pytest.raises(UserError, match="no tensor uses storage 5"):
        files.read(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.pth", "no such weights file: .*nothing.pth"),
        ("weights.h5", "are read from .npz, .safetensors"),
    ],
)
def test_other_files_are_mistakes(name, message, tmp_path):
    with pytest.raises(UserError, match=message):
        files.read(tmp_path / name)


@pytest.mark.parametrize(
    ("module", "name"), [("evil", "FloatStorage"), ("torch", "nothing"), ("collections", "deque")]
)
def test_only_names_of_tensors_are_found(module, name):
    with pytest.raises(pickle.UnpicklingError, match=f"it holds {module}.{name}, and not only"):
        files._Unpickler(io.BytesIO()).find_class(module, name)
