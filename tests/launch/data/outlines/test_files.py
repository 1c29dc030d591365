from pathlib import Path

import pytest

from launch.data.bad_file import BadFile
from launch.data.outlines import files


@pytest.mark.parametrize(
    ("names", "split"),
    [
        (["instances_train2017"], "train"),
        (["Training"], "train"),
        (["valid"], "val"),
        (["my-validation.v3"], "val"),
        (["val2017"], "val"),
        (["test-dev2017"], "test"),
        (["testing"], "test"),
        (["trainval", "contest", "latest", "interval"], ""),
        (["default", "a/val/b"], "val"),
        (["test", "train"], "test"),
        ([], ""),
    ],
)
def test_a_split_is_a_word_of_a_name(names, split):
    assert files.split_of(*names) == split


def test_files_of_a_data_set_lie_in_some_folders(tmp_path):
    for name in ("train2017", "Annotations", "images", "valid", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "test").write_text("a file")
    names = [folder.name for folder in files.folders(tmp_path)]
    assert names == [tmp_path.name, "Annotations", "train2017", "valid"]


def test_a_listing_is_sorted_and_follows_links(tmp_path):
    for name in ("b.json", "a.jpg"):
        (tmp_path / name).touch()
    for name in ("z", "y"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "z")
    (tmp_path / "c.json").symlink_to(tmp_path / "b.json")
    (tmp_path / "broken.json").symlink_to(tmp_path / "nothing")
    assert files.listing(tmp_path) == (["a.jpg", "b.json", "c.json"], ["link", "y", "z"])
    with pytest.raises(BadFile, match=r"a.jpg: cannot be read \(Not a directory\). Change"):
        files.listing(tmp_path / "a.jpg")


def test_titles_name_the_first_file():
    root = Path("/d")
    assert files.title("COCO", [root / "x/a.json"], root) == "COCO (x/a.json)"
    three = [root / "a", root / "b", root / "c"]
    assert files.title("CVAT", three, root) == "CVAT (a and 2 more)"


def test_keys_are_found_in_any_encoding():
    for code in ("utf-8", "utf-16"):
        content = '{"images": 1, "categories": 2}'.encode(code)
        assert files.mentions(content, "images", "categories")
        assert not files.mentions(content, "images", "annotations")
        assert not files.mentions(content, "image")


def test_json_is_parsed_with_a_byte_order_mark(tmp_path):
    content = '{"ä": [1]}'.encode("utf-8-sig")
    (tmp_path / "a").write_bytes(content)
    assert files.parse(tmp_path / "a", files.read(tmp_path / "a")) == {"ä": [1]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a":\n1', r"x.json \(line 2, column 2\): is not valid JSON \(the file ends too ear"),
        (b'{"a":\n1]}', r"x.json \(line 2, column 2\): is not valid JSON \(Expecting ','"),
        (b"\n\n\xff", r"x.json \(line 3\): is not UTF-8 text. Save it as UTF-8"),
        (b"[" * 100_000, r"x.json: cannot be parsed \(nested too deeply\). Export it again"),
        (b"1" * 10_000, r"x.json: cannot be parsed \(Exceeds the limit"),
    ],
)
def test_what_is_no_json_is_named(tmp_path, content, message):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(BadFile, match=message):
        files.parse(path, content)


def test_of_a_file_that_is_too_large_only_the_start_is_read(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    path.write_bytes(b"0" * (2**20 + 9))
    assert files.LARGEST == 2**31
    monkeypatch.setattr(files, "LARGEST", 2**20 + 9)
    assert len(files.read(path)) == 2**20 + 9
    files.check_length(path)
    monkeypatch.setattr(files, "LARGEST", 2**20 + 8)
    content = files.read(path)
    assert len(content) == 2**20
    with pytest.raises(BadFile, match=r"x.json: has 0.0 GiB; at most 0.0 GiB can be parsed"):
        files.parse(path, content)
    monkeypatch.setattr(files, "LARGEST", 2**29)
    with path.open("wb") as file:
        file.truncate(3 * 2**29)
    with pytest.raises(BadFile, match=r"has 1.5 GiB; at most 0.5 GiB.*Divide it into several"):
        files.check_length(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(BadFile, match=r"cannot be read \(Is a directory\)"):
        files.read(tmp_path)


def test_images_are_searched_in_the_likeliest_folders_first(tmp_path):
    for name in ("annotations", "images/val2017", "val", "train", "val/images", "val2017"):
        (tmp_path / name).mkdir(parents=True)
    source = tmp_path / "annotations/instances_val2017.json"
    found = files.image_folders(source, tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        *("val2017", "images/val2017", "val", "val/images"),
        *("annotations", ".", "images"),
    ]
    (tmp_path / "data").mkdir()
    found = files.image_folders(tmp_path / "x.json", tmp_path, "train")
    assert [path.name for path in found] == ["train", tmp_path.name, "images", "data"]


def test_images_are_located_by_ever_shorter_ends_of_their_path(tmp_path):
    for name in ("data/b/x.jpg", "x.jpg", "b/y.jpg", "y.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    find = lambda name, *places: files.locate(name, [tmp_path / it for it in places], tmp_path)
    assert find("b/x.jpg", "data", ".") == tmp_path / "data/b/x.jpg"
    assert find("C:\\u\\b\\x.jpg", "data", ".") == tmp_path / "data/b/x.jpg"
    assert find("./b//y.jpg", ".") == tmp_path / "b/y.jpg"
    assert find("/home/me/b/y.jpg", ".") == tmp_path / "b/y.jpg"
    assert find("../y.jpg", "data") == tmp_path / "y.jpg"
    assert find("z.jpg", "data", ".") is None
    assert find("b", ".") is None  # a folder
    assert find("", ".") is None
    assert find("\0", ".") is None
    assert find("x" * 5000, ".") is None


def test_images_outside_of_the_data_set_are_not_found(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "x.jpg").touch()
    (tmp_path / "rooty.jpg").touch()
    assert files.locate("../x.jpg", [root], root) is None
    assert files.locate("../rooty.jpg", [root], root) is None
    assert files.locate(str(tmp_path / "x.jpg"), [root], root) is None


def test_a_missing_image_is_named_with_the_folders_searched():
    root = Path("/d/root")
    bad = files.no_image(root / "a.json", "x.jpg", [root / "val", root], root, "image 3")
    assert str(bad) == (
        "/d/root/a.json (image 3): names the image 'x.jpg', which does not exist (searched: "
        "root/val, root). Copy the image there, or remove it from the file."
    )
