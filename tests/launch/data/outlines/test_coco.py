import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as library

from launch.data import outlines
from launch.data.bad_file import BadFile
from launch.data.outlines import coco

CATS = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
SQUARE = [1, 1, 4, 1, 4, 3, 1, 3]  # x from 1 to 4, y from 1 to 3


def image(path, width=8, height=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(path)
    return path


def entry(key=1, name="a.jpg", **more):
    return {"id": key, "file_name": name, "width": 8, "height": 6} | more


def note(key=1, segmentation=None, of=1, category=3, **more):
    outline = [SQUARE] if segmentation is None else segmentation
    return {"id": key, "image_id": of, "category_id": category, "segmentation": outline} | more


def write(path, images=None, annotations=(), categories=CATS):
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [entry()] if images is None else images
    text = {"images": images, "annotations": list(annotations), "categories": categories}
    path.write_text(json.dumps(text))
    return path


def found(root):
    (only,) = outlines.find(root)
    return only


def simple(tmp_path, *annotations, **keys):
    """A data set of one image, with the given annotations."""
    image(tmp_path / "a.jpg")
    write(tmp_path / "coco.json", annotations=annotations, **keys)
    return found(tmp_path)


def only_problem(annotations):
    (bad,) = annotations.problems
    return str(bad)


def drawn(annotations, size=(6, 8)):
    assert not annotations.problems
    return outlines.draw(annotations.images[0], size)


def test_roboflow_has_a_file_beside_the_images_of_each_split(tmp_path):
    for folder, name in (("train", "a.jpg"), ("valid", "b.jpg"), ("test", "c.jpg")):
        image(tmp_path / folder / name)
        file = tmp_path / folder / "_annotations.coco.json"
        write(file, [entry(0, name)], [note(of=0)])
    result = found(tmp_path)
    assert result.problems == []
    assert result.title == "COCO (test/_annotations.coco.json and 2 more)"
    assert {it.split: it.image.name for it in result.images} == {
        "train": "a.jpg",
        "val": "b.jpg",
        "test": "c.jpg",
    }
    assert all(it.image.is_absolute() and it.image.is_file() for it in result.images)


def test_ids_of_images_may_be_texts(tmp_path):
    result = simple(tmp_path, note("n", of="x"), images=[entry("x")])
    assert drawn(result).sum() == 6
    assert result.images[0].shapes[0].place == "annotation 'n'"


@pytest.mark.parametrize("folder", ["{}", "images/{}", "{}/images"])
def test_coco_has_its_annotations_in_a_folder(tmp_path, folder):
    for split in ("train2017", "val2017"):
        image(tmp_path / folder.format(split) / "a.jpg")  # the same name in both splits
        write(tmp_path / f"annotations/instances_{split}.json", annotations=[note()])
    result = found(tmp_path)
    assert result.problems == []
    assert result.title == "COCO (annotations/instances_train2017.json and 1 more)"
    where = {it.split: it.image.relative_to(tmp_path).as_posix() for it in result.images}
    expected = {key: f"{folder.format(key + '2017')}/a.jpg" for key in ("train", "val")}
    assert where == expected


def test_without_a_split_the_folder_of_the_image_says_it(tmp_path):
    image(tmp_path / "images/a.jpg")
    image(tmp_path / "val/b.jpg")
    write(tmp_path / "all.json", [entry(), entry(2, "val/b.jpg")])
    assert [it.split for it in found(tmp_path).images] == ["", "val"]


def test_categories_are_in_the_order_of_their_ids(tmp_path):
    result = simple(tmp_path, note(category=7), note(2, [[5, 4, 7, 4, 7, 6, 5, 6]]))
    assert result.names == ("background", "cat", "dog")
    expected = np.zeros((6, 8), np.int32)
    expected[1:3, 1:4] = 2
    expected[4:6, 5:7] = 1
    ids = drawn(result)
    np.testing.assert_array_equal(ids, expected)
    assert ids.dtype == np.int32


def test_a_category_named_background_is_id_0(tmp_path):
    categories = [{"id": 0, "name": "cat"}, {"id": 4, "name": "Background"}, {"id": 9, "name": "x"}]
    small = [[2, 1, 4, 1, 4, 3, 2, 3]]
    notes = note(1, category=9), note(2, small, category=4), note(3, category=0, area=99)
    result = simple(tmp_path, *notes, categories=categories)
    assert result.names == ("background", "cat", "x")
    assert drawn(result)[1].tolist() == [0, 2, 0, 0, 0, 0, 0, 0]


def test_an_image_without_annotations_is_background(tmp_path):
    assert not drawn(simple(tmp_path)).any()


def test_all_polygons_of_an_object_are_drawn(tmp_path):
    two = [SQUARE, [5, 4, 7, 4, 7, 6, 5, 6]]
    ids = drawn(simple(tmp_path, note(1, two)))
    assert ids[1:3, 1:4].all()
    assert ids[4:6, 5:7].all()
    assert ids.sum() == 10


BIG = [[0, 0, 8, 0, 8, 6, 0, 6]]


@pytest.mark.parametrize("areas", [(None, None), (48, 6), (2, 1)])
@pytest.mark.parametrize("turned", [False, True])
def test_larger_objects_are_drawn_first(tmp_path, areas, turned):
    keys = [{} if area is None else {"area": area} for area in areas]
    notes = [note(1, BIG, category=7, **keys[0]), note(2, category=3, **keys[1])]
    ids = drawn(simple(tmp_path, *(notes[::-1] if turned else notes)))
    assert ids[1, 1] == 1
    assert ids[0, 0] == 2


def test_the_area_that_the_file_says_counts_if_it_is_one(tmp_path):
    swapped = note(1, BIG, category=7, area=1), note(2, category=3, area=2)
    assert (drawn(simple(tmp_path, *swapped)) == 2).all()
    unknown = note(2, category=3), note(1, BIG, category=7, area=0)
    assert drawn(simple(tmp_path, *unknown))[1, 1] == 1


def runs(mask):
    """Uncompressed RLE of a mask [H, W], column by column, made by hand."""
    flat, counts, value = mask.T.ravel(), [], 0
    while len(flat):
        length = int(np.argmax(flat != value)) if (flat != value).any() else len(flat)
        counts.append(length)
        flat, value = flat[length:], 1 - value
    return {"counts": counts, "size": list(mask.shape)}


def compressed(mask):
    rle = library.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"counts": rle["counts"].decode(), "size": list(rle["size"])}


@pytest.mark.parametrize("encode", [runs, compressed])
@given(st.integers(0, 2**12 - 1))
def test_rle_gives_the_mask_that_was_encoded(tmp_path_factory, encode, bits):
    mask = np.array([bits >> place & 1 for place in range(12)]).reshape(3, 4)
    root = tmp_path_factory.mktemp("rle")
    image(root / "a.jpg", 4, 3)
    write(root / "c.json", [entry(width=4, height=3)], [note(1, encode(mask))])
    np.testing.assert_array_equal(drawn(found(root), (3, 4)), mask)


@pytest.mark.parametrize("encode", [runs, compressed])
def test_a_crowd_is_void(tmp_path, encode):
    mask = np.zeros((6, 8), int)
    mask[:, 2:6] = 1
    notes = note(1, encode(mask), iscrowd=1), note(2, category=7), note(3, encode(1 - mask))
    ids = drawn(simple(tmp_path, *notes[:2]))
    assert ids[0].tolist() == [0, 0, 255, 255, 255, 255, 0, 0]
    assert ids[1].tolist() == [0, 2, 2, 2, 255, 255, 0, 0]  # the dog is smaller
    assert (drawn(simple(tmp_path, notes[0], notes[2])) == np.where(mask, 255, 1)).all()


@pytest.mark.parametrize("encode", [runs, compressed])
def test_rle_without_an_area_is_ordered_by_its_pixels(tmp_path, encode):
    mask = np.zeros((6, 8), int)
    mask[2:, 2:] = 1  # 24 pixels, and 24 others
    mask[0] = 1
    ids = drawn(simple(tmp_path, note(1, category=7), note(2, encode(mask))))
    assert ids[2].tolist() == [0, 2, 2, 2, 1, 1, 1, 1]


@given(st.lists(st.tuples(st.floats(-1, 9), st.floats(-1, 7)), min_size=3, max_size=6))
def test_polygons_are_drawn_as_pycocotools_draws_them(tmp_path_factory, points):
    root = tmp_path_factory.mktemp("polygon")
    flat = [value for point in points for value in point]
    result = simple(root, note(1, [[2.5, 6, *SQUARE[2:]], flat]))
    expected = library.decode(library.frPyObjects([[2.5, 6, *SQUARE[2:]], flat], 6, 8)).max(-1)
    np.testing.assert_array_equal(drawn(result), expected)


def test_the_result_can_be_pickled_and_hashed(tmp_path):
    outlined = simple(tmp_path, note(), note(2, runs(np.ones((6, 8), int)))).images[0]
    assert pickle.loads(pickle.dumps(outlined)) == outlined
    assert hash(outlined) == hash(pickle.loads(pickle.dumps(outlined)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentation": [[1, 1, 2, 2]]}, r"annotation 5\): a polygon of 2 points. Draw it again"),
        ({"segmentation": [[1, 1]]}, r"a polygon of 1 point\. .*needs 3 points"),
        ({"segmentation": [[1, 1, 2, 2, 3]]}, r"a polygon of 5 numbers, an x without y"),
        ({"segmentation": [[1, 1, 2, 2, 3, "4"]]}, r"whose points are not numbers"),
        ({"segmentation": [[1, 1, 2, 2, 3, True]]}, r"whose points are not numbers"),
        ({"segmentation": [SQUARE, 4]}, r"whose points are not numbers"),
        ({"segmentation": SQUARE}, r"whose points are not numbers"),
        ({"segmentation": [[1, 1, 2, 2, 3, float("nan")]]}, r"a point that is not finite"),
        ({"segmentation": [[1, 1, 2, 2, 3, 10**400]]}, r"a point that is not finite"),
        ({"segmentation": [[1, 1, 20, 1, 3, 3]]}, r"a point at x 20, far outside .* 8 x 6 pixels"),
        ({"segmentation": [[1, 1, 2, -4, 3, 3]]}, r"a point at y -4, far outside of its image"),
        ({"segmentation": "x"}, r"annotation 5\): has the outline 'x'"),
        ({"segmentation": []}, r"annotation 5\): has no outline"),
        ({"segmentation": {"counts": [48]}}, r"RLE of size None; it is \[height, width\]"),
        ({"segmentation": {"counts": [48], "size": [6, 8, 1]}}, r"RLE of size \[6, 8, 1\]"),
        ({"segmentation": {"counts": [48], "size": [6, 8.0]}}, r"RLE of size \[6, 8.0\]"),
        ({"segmentation": {"counts": [48], "size": [8, 6]}}, r"RLE of 6 x 8 pixels, its image 8 x"),
        ({"segmentation": {"counts": [47], "size": [6, 8]}}, r"RLE of 47 pixels, .* has 48"),
        ({"segmentation": {"counts": [49, -1], "size": [6, 8]}}, r"neither numbers nor text"),
        ({"segmentation": {"counts": [48.0], "size": [6, 8]}}, r"neither numbers nor text"),
        ({"segmentation": {"counts": None, "size": [6, 8]}}, r"neither numbers nor text"),
        ({"segmentation": {"counts": "1P", "size": [6, 8]}}, r"a broken RLE text"),
        ({"segmentation": {"counts": "PPPPPPP1", "size": [6, 8]}}, r"a broken RLE text"),
        ({"segmentation": {"counts": "/1", "size": [6, 8]}}, r"a broken RLE text"),
        ({"image_id": 2}, r"annotation 5\): is of image 2, which is not in the file. Add"),
        ({"image_id": [1]}, r"is of image \[1\], which is not in the file"),
        ({"category_id": 4}, r"annotation 5\): is of category 4, which is not in the file. Add"),
        ({"category_id": [3]}, r"is of category \[3\]"),
        ({"category_id": True}, r"is of category True"),
        ({"id": None, "category_id": 4}, r"annotations\[1\]\): is of category 4"),
    ],
)
def test_a_broken_annotation_is_named_and_left_out(tmp_path, change, message):
    result = simple(tmp_path, note(), note(5) | change)
    (bad,) = result.problems
    assert bad.path == str(tmp_path / "coco.json")
    with pytest.raises(BadFile, match=message):
        raise bad
    assert len(result.images[0].shapes) == 1


def test_a_broken_compressed_text_is_named_when_it_is_drawn(tmp_path):
    result = simple(tmp_path, note(4, {"counts": "abc0", "size": [6, 8]}))
    with pytest.raises(BadFile, match=r"annotation 4\): a broken RLE \(Invalid"):
        outlines.draw(result.images[0], (6, 8))


def test_rle_of_another_size_than_the_image_is_named(tmp_path):
    rle = note(4, {"counts": [48], "size": [6, 8]})
    result = simple(tmp_path, rle, images=[{"id": 1, "file_name": "a.jpg"}])
    assert not drawn(result).any()
    with pytest.raises(BadFile, match=r"annotation 4\): says that a.jpg has 8 x 6"):
        outlines.draw(result.images[0], (7, 8))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([entry(), entry(2, "b/x.jpg")], r"image 2\): names the image 'b/x.jpg', which does not"),
        ([entry(), entry(2, None)], r"image 2\): an image of file_name None"),
        ([entry(), entry(None, "b.jpg")], r"images\[1\]\): an image of id None"),
        ([entry(), entry(1, "b.jpg")], r"image 1\): two images have the id 1. Give each"),
        ([entry(), entry(2)], r"image 2\): the image 'a.jpg' is already in this file. Remove"),
        ([entry(), entry(2, "b.jpg", width=0)], r"image 2\): an image of width 0 and height 6"),
        ([entry(), entry(2, "b.jpg", width="8")], r"width '8' and height 6"),
        ([entry(), entry(2, "b.jpg", height=None)], r"width 8 and height None"),
        ([entry(), entry(2, "b.jpg", height=6.5)], r"width 8 and height 6.5"),
        ([entry(), entry(2, "b.jpg", height=float("inf"))], r"width 8 and height inf"),
    ],
)
def test_a_broken_image_is_named_and_left_out(tmp_path, images, message):
    image(tmp_path / "a.jpg")
    image(tmp_path / "b.jpg")
    write(tmp_path / "coco.json", images, [note(), note(2, of=images[1]["id"] or 1)])
    result = found(tmp_path)
    (bad,) = result.problems
    with pytest.raises(BadFile, match=message):
        raise bad
    assert [it.image.name for it in result.images] == ["a.jpg"]


def test_a_missing_image_says_where_it_was_searched(tmp_path):
    write(tmp_path / "annotations/instances_train.json")
    (tmp_path / "train").mkdir()
    name = tmp_path.name
    searched = rf"searched: {name}/train, {name}/annotations, {name}\)"
    with pytest.raises(BadFile, match=searched):
        raise found(tmp_path).problems[0]


def test_an_image_in_two_files_is_named(tmp_path):
    image(tmp_path / "a.jpg")
    write(tmp_path / "one.json")
    write(tmp_path / "two.json")
    result = found(tmp_path)
    assert "two.json (image 1): the image 'a.jpg' is already in one.json" in only_problem(result)
    assert len(result.images) == 1


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([{"id": 3, "name": "dog"}], r"category 3 is 'dog', but 'cat' in another file"),
        ([{"id": 4, "name": "cat"}], r"category 'cat' has id 4, but 3 in another file"),
        ([{"id": 5, "name": "a"}, {"id": 5, "name": "b"}], r"category 5 \('b'\) occurs twice"),
        ([{"id": 5, "name": "a"}, {"id": 6, "name": "a"}], r"category 6 \('a'\) occurs twice"),
        ([{"id": "5", "name": "a"}], r"a category of id '5' and name 'a'"),
        ([{"id": 5, "name": " "}], r"a category of id 5 and name ' '"),
        ([{"id": 5, "name": "a\ud800"}], r"a category of id 5 and name 'a.ud800'"),
        ([{"id": 5}], r"a category of id 5 and name None"),
    ],
)
def test_files_that_name_categories_differently_are_refused(tmp_path, categories, message):
    image(tmp_path / "a.jpg")
    image(tmp_path / "b.jpg")
    write(tmp_path / "one.json")
    write(tmp_path / "two.json", [entry(1, "b.jpg")], categories=categories)
    result = found(tmp_path)
    with pytest.raises(BadFile, match=rf"two.json: {message}"):
        raise result.problems[0]
    assert [it.image.name for it in result.images] == ["a.jpg"]
    assert result.names == ("background", "cat", "dog")


def test_files_may_name_different_parts_of_the_categories(tmp_path):
    image(tmp_path / "a.jpg")
    image(tmp_path / "b.jpg")
    write(tmp_path / "one.json", categories=CATS[:1])
    write(tmp_path / "two.json", [entry(1, "b.jpg")], [note()], categories=CATS[1:])
    assert found(tmp_path).names == ("background", "cat", "dog")
    assert found(tmp_path).problems == []


def test_boxes_alone_are_one_problem(tmp_path):
    boxes = [note(key, [], bbox=[1, 1, 2, 2]) for key in range(5)]
    assert "its 5 annotations are boxes, without outlines" in only_problem(simple(tmp_path, *boxes))


def test_fractions_in_place_of_pixels_are_named(tmp_path):
    tiny = [[0.1, 0.1, 0.9, 0.1, 0.5, 1]]
    assert "lie between 0 and 1" in only_problem(simple(tmp_path, note(1, tiny)))
    assert simple(tmp_path, note(1, tiny), note(2)).problems == []
    assert simple(tmp_path, note(1, [[0, 0, 1, 0, 1, 1, 0, 1]])).problems == []


def test_points_a_little_outside_are_cut_off(tmp_path):
    ids = drawn(simple(tmp_path, note(1, [[-3, -3, 11, -3, 11, 9, -3, 9]])))
    assert (ids == 1).all()


def test_another_size_than_the_image_is_named(tmp_path):
    (outlined,) = simple(tmp_path, note()).images
    message = r"coco.json: says that a.jpg has 8 x 6 pixels \(width x height\), but it has 16 x 12"
    with pytest.raises(BadFile, match=message):
        outlines.draw(outlined, (12, 16))
    with pytest.raises(BadFile, match=r"6 x 8\. One of them lies on its side"):
        outlines.draw(outlined, (8, 6))


def test_without_a_size_points_are_checked_when_they_are_drawn(tmp_path):
    result = simple(
        tmp_path, note(9, [[0, 0, 1e9, 0, 0, 9]]), images=[{"id": 1, "file_name": "a.jpg"}]
    )
    assert result.problems == []
    with pytest.raises(BadFile, match=r"annotation 9.*at x 1e\+09, far outside"):
        outlines.draw(result.images[0], (6, 8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"images": [{"file_name": "a', r"line 1, column 27\): is not valid JSON \(Unter"),
        (b'{"images": [{"file_name": 1}],\n', r"line 2.*the file ends too early"),
        (b'{"images": "file_name", "x": ' + b"[" * 200_000, r"\(nested too deeply\)"),
        (b'{"images": "file_name", "x":\n"\xfc"}', r"line 2\): is not UTF-8 text"),
        ('{"images": "file_name"}'.encode("utf-16"), r"line 1\): is not UTF-8 text"),
        (b'{"images": "file_name", "x": ' + b"1" * 5000 + b"}", r"cannot be parsed \(Exceeds"),
    ],
)
def test_files_that_cannot_be_parsed_are_named(tmp_path, content, message):
    (tmp_path / "coco.json").write_bytes(content)
    result = found(tmp_path)
    with pytest.raises(BadFile, match=rf"coco.json.*{message}"):
        raise result.problems[0]
    assert result.title == "COCO (coco.json)"
    assert result.images == ()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"images": []}'])
def test_a_file_named_as_coco_must_be_it(tmp_path, content):
    for name in ("_annotations.coco.json", "instances_val.json"):
        file = tmp_path / name
        file.write_bytes(content)
        assert name in only_problem(found(tmp_path))
        file.unlink()


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize(("value", "message"), [({}, "no list"), ([3], r"\[0\]): 3 in place of")])
def test_lists_must_be_lists_of_objects(tmp_path, key, value, message):
    content = {"images": [entry()], "annotations": [], "categories": CATS} | {key: value}
    (tmp_path / "x.json").write_text(json.dumps(content | {"file_name": 0}))
    assert message.replace("\\", "") in only_problem(found(tmp_path))


@pytest.mark.parametrize(
    "content",
    [
        {"a": 1},
        {"images": [entry()]},
        {"images": [entry()], "annotations": [{"caption": "x"}], "categories": []},
        {"images": [entry()], "annotations": [{"segments_info": []}], "categories": CATS},
        ["images", "file_name"],
        None,
    ],
)
def test_other_json_is_skipped(tmp_path, content):
    (tmp_path / "x.json").write_text(json.dumps(content))
    assert outlines.find(tmp_path) == []


def test_key_points_are_left_out_beside_instances(tmp_path):
    image(tmp_path / "train2017/a.jpg")
    person = [{"id": 1, "name": "person", "keypoints": ["nose"]}]
    folder = tmp_path / "annotations"
    write(folder / "person_keypoints_train2017.json", categories=person)
    assert found(tmp_path).names == ("background", "person")
    write(folder / "instances_train2017.json", categories=CATS)
    result = found(tmp_path)
    assert result.names == ("background", "cat", "dog")
    assert result.title == "COCO (annotations/instances_train2017.json)"
    assert result.problems == []


def test_without_pycocotools_one_problem_says_how_to_install_it(tmp_path, monkeypatch):
    (outlined,) = simple(tmp_path, note(), note(2, compressed(np.ones((6, 8), int)))).images
    monkeypatch.setitem(__import__("sys").modules, "pycocotools", None)
    assert "pip install '.[coco]'" in only_problem(found(tmp_path))
    with pytest.raises(BadFile, match=r"pip install '\.\[coco\]'"):
        outlines.draw(outlined, (6, 8))
    write(tmp_path / "coco.json")
    assert not drawn(found(tmp_path)).any()  # background needs no library


def test_json_of_other_folders_is_not_read(tmp_path):
    image(tmp_path / "other/a.jpg")
    write(tmp_path / "other/coco.json")
    assert outlines.find(tmp_path) == []
    assert outlines.find(tmp_path / "missing") == []
    assert coco.find(tmp_path / "other").title == "COCO (coco.json)"
