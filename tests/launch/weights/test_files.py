"""Files of weights of three kinds; PyTorch wrote two of those below."""

import base64
import contextlib
import io
import itertools
import json
import pickle
import pickletools
import struct
import zipfile
import zlib
from pathlib import Path

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


def legacy_parts(whole):
    """The five pickles of a file of the format before 1.6, and what follows them."""
    stream, places = io.BytesIO(whole), [0]
    for _ in range(5):
        list(pickletools.genops(stream))
        places.append(stream.tell())
    return [whole[first:last] for first, last in itertools.pairwise([*places, len(whole)])]


def mapping(**items):
    """The pickle of a mapping, protocol 2, whose values are pickles already."""
    text = lambda key: b"X" + struct.pack("<I", len(key)) + key.encode()
    pairs = (text(key) + value[2:-1] for key, value in items.items())
    return b"\x80\x02}(" + b"".join(pairs) + b"u."


def checkpoint(tensors, names, others):
    """The pickle of a training's checkpoint: tensors under some names, those of an optimiser."""
    state = mapping(state=mapping(mean=others))
    return mapping(epoch=b"\x80\x02K\x03.", optimizer=state, **dict.fromkeys(names, tensors))


def write_checkpoint(path, zipped, names):
    whole = zlib.decompress(base64.b85decode(ZIPPED if zipped else UNZIPPED))
    if not zipped:  # the optimiser's storages lie behind the others
        *before, content, keys, numbers = legacy_parts(whole)
        content = checkpoint(content, names, content.replace(b"940766", b"140766"))
        keys = pickle.loads(keys)
        keys += [key.replace("940766", "140766") for key in keys]
        path.write_bytes(b"".join([*before, content, pickle.dumps(keys), numbers, numbers]))
        return
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            pickled = name.endswith("data.pkl")
            new.writestr(name, checkpoint(content, names, content) if pickled else content)


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_below_a_name_are_found_and_all_else_is_named(tmp_path, zipped):
    path, said = tmp_path / "net.pth", []
    write_checkpoint(path, zipped, ["state_dict"])
    check(files.read(path, said.append))
    assert said == [
        "net.pth: its tensors are those of 'state_dict'",
        "net.pth: not used, as no tensors of a net: epoch, optimizer",
    ]
    write_checkpoint(path, zipped, ["model", "model_ema"])
    with pytest.raises(UserError, match=r"which tensors: those of model, model_ema\? Keep one"):
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


@pytest.mark.parametrize("header", [b"\0" * 20, b"{'descr': (\n" * 3, b"(" * 2_000, b"{", b"1 +"])
def test_the_header_of_an_array_that_is_no_python(tmp_path, header):
    array = b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("a.npy", array)
    with pytest.raises(UserError, match=r"w\.npz is not a \.npz weights file, or damaged"):
        files.read(tmp_path / "w.npz")


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
    path = Path(__file__)
    assert files._tensors({"a": tensor, "b": storage, "c": 3}, path, print) == {"a": tensor}
    with pytest.raises(ValueError, match="it holds a list, not tensors by name"):
        files._tensors([tensor], path, print)


def test_a_pickle_of_another_format_is_refused(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"".join(pickle.dumps(part) for part in (7, 1, {}, {}, [])))
    with pytest.raises(UserError, match="its first number is not that of PyTorch"):
        files.read(path)
    path.write_bytes(b"".join(pickle.dumps(part) for part in (files.MAGIC, 1, {}, {}, [])))
    with pytest.raises(UserError, match="it holds no tensors by name; its keys are none"):
        files.read(path)
    whole = zlib.decompress(base64.b85decode(UNZIPPED))
    *before, _, _ = legacy_parts(whole)
    path.write_bytes(b"".join([*before, pickle.dumps(["5"])]))
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


def safetensors(path, header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)
    return path


def entry(first, last, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [first, last]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry(-8, 8)}, "a begins at byte -8"),
        ({"a": entry(8, 0)}, "a begins at byte 8, and what is before it ends at 0"),
        ({"a": entry(0, 8), "b": entry(4, 12)}, "b begins at byte 4, .* ends at 8"),
        ({"a": entry(0, 8), "b": entry(0, 8)}, "b begins at byte 0"),
        ({"a": entry(0, 8), "b": entry(12, 16, (1,))}, "b begins at byte 12, .* ends at 8"),
        ({"a": entry(0, 8)}, "its tensors end at byte 8 of 16"),
        ({"a": entry(0, 32, (8,))}, "its tensors end at byte 32 of 16|shape"),
        ({"a": entry(0, 16, (-1,))}, r"a has the shape \[-1\]"),
        ({"a": entry(0, 16, (-2, -2))}, r"a has the shape \[-2, -2\]"),
        ({"a": entry(0, 16, ("4",))}, r"a has the shape \['4'\]"),
        ({"a": entry(0, 16, (3,))}, "cannot reshape"),
        ({"a": entry(0, 16, (2**62, 4))}, ""),
        ({"a": entry(0, 16, (4,), "F33")}, "F33"),
        ({"a": entry(0.0, 16.0, (4,))}, ""),
        ({"a": {"dtype": "F32", "shape": [4]}}, "data_offsets"),
        ({"a": entry(0, 15, (3,))}, ""),
        ([1], ""),
        (b"[" * 100_000, ""),
        (b"\xff\xfe", ""),
    ],
)
def test_headers_of_safetensors_that_cannot_be_are_refused(tmp_path, header, message):
    path = safetensors(tmp_path / "w.safetensors", header, bytes(16))
    with pytest.raises(UserError, match=f"w.safetensors is .* or damaged: .*(?:{message})"):
        files.read(path)


def test_a_header_that_is_longer_than_the_file_is_refused(tmp_path):
    header = {"a": entry(0, 8)}
    for length in (2**40, len(json.dumps(header)) + 17):
        path = safetensors(tmp_path / "w.safetensors", header, bytes(16), length)
        with pytest.raises(UserError, match=f"its header has {length:,} bytes, the file"):
            files.read(path)


def test_tensors_come_in_the_order_of_the_header_and_may_be_empty(tmp_path):
    header = {"b": entry(8, 16), "e": entry(8, 8, (0, 3)), "a": entry(0, 8)}
    found = files.read(
        safetensors(tmp_path / "w.safetensors", header, np.arange(4, dtype=np.float32).tobytes())
    )
    assert list(found) == ["b", "e", "a"]
    assert (found["b"].tolist(), found["e"].shape, found["a"].tolist()) == ([2, 3], (0, 3), [0, 1])


def npy(shape, dtype="<f4", body=b""):
    stream = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + body


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy((10**12,), body=bytes(8)), r"a.npy is float32\[1000000000000\] in 136 bytes"),
        (npy((-1,), body=bytes(8)), r"a.npy is float32\[-1\]"),
        (npy((-1, -2), body=bytes(8)), r"a.npy is float32\[-1, -2\]"),
        (npy((1,), body=bytes(8)), r"a.npy is float32\[1\] in 136 bytes"),
        (npy((1,), "|O", bytes(8)), ""),
        (b"no array", ""),
        (b"\x93NUMPY\x03\x00" + bytes(20), "version"),
    ],
)
def test_arrays_that_are_not_what_their_header_says_are_refused(tmp_path, content, message):
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", content)
    with pytest.raises(UserError, match=f"w.npz is not a .* or damaged: .*{message}"):
        files.read(path)


def test_headers_of_the_second_version_are_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive, archive.open("a.npy", "w") as stream:
        np.lib.format.write_array(stream, np.arange(3.0), version=(2, 0))
    assert files.read(tmp_path / "w.npz")["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["w.npz", "w.pth"])
def test_a_small_file_that_unpacks_to_much_is_refused_before_it_is_unpacked(
    tmp_path, monkeypatch, name
):
    monkeypatch.setenv("SEGEN_UNPACKED_MIB", "2")
    path = tmp_path / name
    values = np.zeros(3 * 2**18, np.float32)  # 3 MiB
    if name == "w.npz":
        np.savez_compressed(path, a=values)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("w/data.pkl", pickle.dumps({}))
            archive.writestr("w/data/0", values.tobytes())
    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it was unpacked"))
        patch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("it was unpacked"))
        with pytest.raises(UserError, match=r"unpacks to 3,\d+,\d+; if .*SEGEN_UNPACKED_MIB=4"):
            files.read(path)
    monkeypatch.setenv("SEGEN_UNPACKED_MIB", "4")
    if name == "w.npz":
        assert len(files.read(path)) == 1
    else:
        with pytest.raises(UserError, match="it holds no tensors by name; its keys are none"):
            files.read(path)
    monkeypatch.setenv("SEGEN_UNPACKED_MIB", "much")
    with pytest.raises(UserError, match=r"SEGEN_UNPACKED_MIB=much in the environment is not"):
        files.read(path)


def test_a_large_file_may_hold_as_much_as_its_size(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGEN_UNPACKED_MIB", "0")
    np.savez(tmp_path / "w.npz", a=np.zeros(2**18))
    assert files.read(tmp_path / "w.npz")["a"].shape == (2**18,)


def test_tensors_that_share_a_storage_count_each(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGEN_UNPACKED_MIB", "1")
    tensor = files._Tensor(files._Storage("0", np.dtype("f4")), 0, (2**17,), (1,))
    path = tmp_path / "w.pth"
    path.write_bytes(bytes(10))
    assert len(files._tensors({"a": tensor, "b": tensor}, path, print)) == 2
    with pytest.raises(ValueError, match=r"unpacks to 1,572,864"):
        files._tensors({"a": tensor, "b": tensor, "c": tensor}, path, print)


def test_a_stride_of_0_does_not_repeat_numbers():
    tensor = files._Tensor(files._Storage("0", np.dtype("f4")), 0, (10**6, 10**6), (0, 0))
    with pytest.raises(ValueError, match=r"shape \[1000000, 1000000\] has 5 numbers"):
        tensor.array(np.zeros(5))


@pytest.mark.parametrize("more", [-7, 2**40, 10**4])
def test_a_storage_that_is_longer_than_the_file_is_refused(tmp_path, more):
    whole = zlib.decompress(base64.b85decode(UNZIPPED))
    place = whole.rindex(struct.pack("<q", 6) + np.float32(0).tobytes())
    path = tmp_path / "w.pth"
    path.write_bytes(whole[:place] + struct.pack("<q", 6 + more) + whole[place + 8 :])
    left = len(whole) - place - 8
    with pytest.raises(UserError, match=rf"has {6 + more:,} numbers in {left:,} bytes"):
        files.read(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("put", [b"r\xff\xff\xff\x0f", b"p268435455\n", b"q\xff"])
def test_a_pickle_cannot_ask_for_memory_by_the_numbers_of_its_objects(tmp_path, put, zipped):
    content, path = b"\x80\x02}" + put + b".", tmp_path / "w.pth"
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("w/data.pkl", content)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged: its object (268,435,455|255) is at byte 3"):
        files.read(path)


def test_a_zip_without_a_pickle_and_an_encrypted_one(tmp_path):
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other", b"")
    with pytest.raises(UserError, match=r"damaged: it has no file data.pkl"):
        files.read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", pickle.dumps({}))
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag of the file's own header, and that of the list of files
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged: File .* is encrypted"):
        files.read(path)


@pytest.mark.parametrize("name", ["w.npz", "w.pth", "w.safetensors"])
def test_damage_anywhere_is_a_message_or_nothing(tmp_path, name):
    path, rng = tmp_path / name, np.random.default_rng(0)
    if name == "w.npz":
        np.savez_compressed(path, **EXPECTED)
    elif name == "w.pth":
        path.write_bytes(zlib.decompress(base64.b85decode(UNZIPPED)))
    else:
        safetensors(path, {"a": entry(0, 8), "b": entry(8, 16)}, bytes(16))
    whole = path.read_bytes()
    for _ in range(150):
        content = bytearray(whole)
        for place in rng.integers(0, len(whole), 2):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        with contextlib.suppress(UserError):
            files.read(path)
