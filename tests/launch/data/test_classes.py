import numpy as np
import pytest

from launch.data import classes
from launch.data.bad_file import BadFile
from launch.data.classes import Table


def table_of(tmp_path, text, name="classes.csv"):
    (tmp_path / name).write_text(text, "utf-8")
    return classes.read_table(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "id,name\n0,wall\n2,window\n1,door\n",
        "0;wall\n1;door\n2;window\n",
        "\ufeffName\tID\nwall\t0\ndoor\t1\nwindow\t2\n",
        "name,r,g,b\nwall,1,1,1\ndoor,2,2,2\nwindow,3,3,3\n",
        "index,class\n0,wall\n1,door\n\n2,window\n",
    ],
)
def test_tolerant_class_files(tmp_path, text):
    table = table_of(tmp_path, text)
    assert table.names == {0: "wall", 1: "door", 2: "window"}
    colours = {(number + 1,) * 3: number for number in range(3)}
    assert table.colours == (colours if "r,g,b" in text else {})


def test_a_text_file_has_a_name_in_each_line(tmp_path):
    assert table_of(tmp_path, "wall\n door \n\n", "classes.txt").names == {0: "wall", 1: "door"}
    assert table_of(tmp_path, "0,a\n").names == {0: "a"}  # classes.csv has precedence


def test_a_folder_without_either_has_no_table(tmp_path):
    assert classes.read_table(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,wall\n0,door\n", r"classes.csv \(line 2\): id 0 occurs twice"),
        ("0,wall\nx,door\n", r"line 2\): no id and name in 'x,door'. Write lines such as"),
        ("0,wall,1,2\n", "no colour in '1,2,'"),
        ("0,wall,1,2,256\n", "no colour in '1,2,256'"),
        ("0,wall,1,2,3\n1,door,1,2,3\n", r"line 2\): colour \(1, 2, 3\) occurs twice"),
        ("0,wall\n1,wall\n", "the name 'wall' occurs twice"),
        ("id,name\n", "names no class"),
        (f"0,wall\n1,{'x' * 200_000}\n", r"line 2\): cannot be read \(field larger than"),
    ],
)
def test_bad_class_files_are_named(tmp_path, text, message):
    with pytest.raises(BadFile, match=message):
        table_of(tmp_path, text)


def test_the_largest_level_of_a_channel_is_255(tmp_path):
    assert table_of(tmp_path, "0,wall,255,0,0\n").colours == {(255, 0, 0): 0}


def test_an_empty_line_and_other_encodings_are_named(tmp_path):
    with pytest.raises(BadFile, match=r"line 2\): an empty line"):
        table_of(tmp_path, "wall\n\ndoor\n", "classes.txt")
    (tmp_path / "classes.csv").write_bytes("0,Wand\n1,Tür\n".encode("latin-1"))
    with pytest.raises(BadFile, match=r"line 2\): is not UTF-8 text"):
        classes.read_table(tmp_path)


def test_ignored_ids_become_255():
    ids = np.array([[0, 1], [2, 9]])
    checked = classes.check_ids("m.png", ids, 3, 9)
    np.testing.assert_array_equal(checked, [[0, 1], [2, 255]])
    assert checked.dtype == np.uint8
    np.testing.assert_array_equal(classes.check_ids("m.png", ids[:1], 2, 0), [[255, 1]])


def test_in_binary_masks_255_is_1():
    ids = np.array([[0, 255], [1, 0]], np.uint8)
    np.testing.assert_array_equal(classes.check_ids("m", ids, 2, 255, True), [[0, 1], [1, 0]])
    np.testing.assert_array_equal(classes.check_ids("m", ids, 2, 255), [[0, 255], [1, 0]])
    np.testing.assert_array_equal(classes.check_ids("m", ids, 2, 0, True), [[255, 1], [1, 255]])


@pytest.mark.parametrize("wrong", [3, -1, 300])
def test_the_first_id_out_of_range_is_named(wrong):
    ids = np.zeros((4, 6), np.int32)
    ids[2, 5] = ids[3, 0] = wrong
    message = rf"m.png \(x 5, y 2\): id {wrong}, but there are 3 classes \(ids 0 to 2\)"
    with pytest.raises(BadFile, match=f"{message}.*give ignore={wrong} .ignore is 255"):
        classes.check_ids("m.png", ids, 3, 255)


NAMED = Table({0: "a", 1: "b", 2: "c", 9: "void"}, {}, "classes.csv")


@pytest.mark.parametrize(
    ("table", "given", "ignore", "values", "expected"),
    [
        (None, 5, 255, set(), (5, False)),
        (NAMED, 0, 9, set(), (3, False)),
        (NAMED, 3, 9, set(), (3, False)),
        (None, 0, 255, {0, 1, 2, 255}, (3, False)),
        (None, 0, 255, {0, 255}, (2, True)),
        (None, 2, 255, {0, 255}, (2, True)),
        (None, 2, 255, {0, 1, 255}, (2, False)),
        (None, 3, 255, {0, 255}, (3, False)),
        (None, 0, 2, {0, 1, 2}, (2, False)),
        (None, 0, 255, {0, 3}, (4, False)),  # half of the ids occur
        (None, 255, 255, set(), (255, False)),
        (None, 1, 255, set(), (1, False)),
        (None, 0, 255, {0}, (1, False)),
    ],
)
def test_the_number_of_classes(table, given, ignore, values, expected):
    assert classes.count("d", table, given, ignore, values) == expected


@pytest.mark.parametrize(
    ("table", "given", "values", "message"),
    [
        (NAMED, 2, set(), "classes=2, but its class file names id 9"),
        (None, 0, {0, 1, 300}, r"hold 0, 1, 300, which may not be ids.*classes=301"),
        (None, 0, {0, 4}, r"hold 0, 4, which may not be ids.*classes=5"),
        (None, 0, set(range(257)), "257 classes"),
        (None, 0, set(), "0 classes"),
    ],
)
def test_numbers_of_classes_that_cannot_be(table, given, values, message):
    with pytest.raises(BadFile, match=message):
        classes.count("d", table, given, 255, values)


def test_classes_without_a_name_have_their_number():
    assert classes.names(NAMED, 4, 9) == ("a", "b", "c", "class 3")
    assert classes.names(NAMED, 2, 1) == ("a", "class 1")
    assert classes.names(None, 1, 255) == ("class 0",)


@pytest.mark.parametrize(
    "text",
    [
        "Pixel Value, Class\n0,wall\n1,door\n",
        "value;Label\n0;wall\n1;door\n",
        "class,name\nroom,wall\nroom,door\n",
        "name,r,g,b,note\nwall,1,2,3,x\ndoor,4,5,6,7\n",
        "label_name,group\nwall,1\ndoor,\n",
    ],
)
def test_titles_of_other_programs(tmp_path, text):
    (tmp_path / "classes.csv").write_text(text)
    assert classes.read_table(tmp_path).names == {0: "wall", 1: "door"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("code,title\n5,wall\n6,door\n", "the column 'code' may hold the ids. Call it id if so"),
        ("name,class,label\na,b,c\n", None),
        ("class,label\na,b\n", "two columns may be the name: class,label"),
        ("id,value,name\n0,1,a\n", None),
        ("index,value,name\n0,1,a\n", "two columns may be the id: index,value,name"),
        ("colour,shape\nred,x\n", "no column of names among colour,shape"),
    ],
)
def test_titles_that_cannot_be_told_apart(tmp_path, text, message):
    (tmp_path / "classes.csv").write_text(text)
    if message is None:
        assert classes.read_table(tmp_path).names == {0: "a"}
        return
    with pytest.raises(BadFile, match=rf"classes.csv \(line 1\): {message}"):
        classes.read_table(tmp_path)


def test_lists_of_other_programs(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "_classes.csv").write_text("Pixel Value, Class\n0, a\n2, b\n")
    assert classes.read_table(tmp_path).names == {0: "a", 2: "b"}
    text = "# label:color_rgb:parts:actions\nback:0,0,0::\n\ncar:9,8,7::\n"
    (tmp_path / "labelmap.txt").write_text(text)
    (tmp_path / "train" / "_classes.csv").unlink()
    table = classes.read_table(tmp_path)
    assert (table.names, table.colours) == (
        {0: "back", 1: "car"},
        {(0, 0, 0): 0, (9, 8, 7): 1},
    )
    assert table.path == str(tmp_path / "labelmap.txt")
    (tmp_path / "labelmap.txt").write_text("# nothing\n")
    with pytest.raises(BadFile, match="names no class"):
        classes.read_table(tmp_path)
    (tmp_path / "classes.txt").write_text("x\ny\n")
    assert classes.read_table(tmp_path).names == {0: "x", 1: "y"}
