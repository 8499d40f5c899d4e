"""Graphs and images from files in the format of the papers, and what is refused."""

import numpy as np
import pytest

import badrjax as bx
from badrjax.datasets import celeba_from_files, graph_from_files, graph_splits, load_graph

NODES = """user_id,SALARY,country,age,height
7,1,1,20,2.0
3,0,0,21,1.9
9,-1,1,22,1.8
4,2,0,23,1.7
5,0,1,24,1.6
6,1,0,25,1.5
8,0,0,26,1.4
1,1,1,27,1.3
2,0,0,28,1.2
"""
EDGES = "7\t3\n3 7\n9 4\n5 5\n6 9\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "nba").mkdir()
    nodes, edges = tmp_path / "nba" / "nba.csv", tmp_path / "nba" / "nba_relationship.txt"
    nodes.write_text(NODES)
    edges.write_text(EDGES)
    return nodes, edges


def read(files, **options):
    return graph_from_files(*files, **{"label": "SALARY", "sensitive": "country", **options})


def test_a_graph_is_read(files):
    graph = read(files)
    assert graph.feature_names == ("age", "height")
    np.testing.assert_allclose(graph.x[:2], [[20, 2.0], [21, 1.9]])
    np.testing.assert_array_equal(graph.y, [1, 0, 0, 1, 0, 1, 0, 1, 0])
    np.testing.assert_array_equal(graph.labelled, [True, True, False, *[True] * 6])
    np.testing.assert_array_equal(graph.group, [1, 0, 1, 0, 1, 0, 0, 1, 0])
    assert graph.group_names == ("0", "1")
    assert set(zip(*graph.edges.tolist(), strict=True)) == {(0, 1), (1, 0), (2, 3), (3, 2), (5, 2), (2, 5)}
    by_name = load_graph("nba", files[0].parents[1])
    for ours, theirs in zip(graph, by_name, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    model = bx.models.graph_with_fairness(graph.x, graph.edges, 4, (4,))
    assert model.apply is not None


def test_parts_hold_labelled_nodes_once(files):
    graph = read(files)
    splits = graph_splits(graph, 0)
    together = np.concatenate(splits)
    np.testing.assert_array_equal(np.sort(together), np.flatnonzero(graph.labelled))
    assert [part.size for part in splits] == [4, 2, 2]
    assert graph_splits(graph, 0, num_labels=2).train.size == 2
    assert not np.array_equal(np.concatenate(graph_splits(graph, 1)), together)
    with pytest.raises(ValueError, match="num_labels must be from 1 to 4"):
        graph_splits(graph, 0, num_labels=5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("SALARY", "salary", "no column 'SALARY'"),
        ("\n3,0", "\n7,0", "identifier 7 twice"),
        ("20,2.0", "old,2.0", "column 'age' .* finite numbers"),
        ("20,2.0", ",2.0", "column 'age' .* finite numbers"),
        ("20,2.0", "1e300,2.0", "column 'age' .* finite numbers"),
        ("7,1,1", "7,rich,1", "column 'SALARY' .* must hold numbers"),
        ("7,1,1", "x7,1,1", "column 'user_id' .* must hold integers"),
        ("7,1,1", ",1,1", "column 'user_id' .* must hold integers"),
    ],
)
def test_wrong_nodes(files, old, new, message):
    files[0].write_text(NODES.replace(old, new))
    with pytest.raises(ValueError, match=message):
        read(files)


def test_nothing_to_compare_or_to_learn(files):
    rows = NODES.splitlines()
    files[0].write_text("\n".join([rows[0], *(row for row in rows[1:] if row.split(",")[2] == "1")]))
    with pytest.raises(ValueError, match=r"'country' .* has one value"):
        read(files)
    files[0].write_text("\n".join([rows[0], *(row for row in rows[1:] if row.split(",")[1] in ("0", "-1"))]))
    with pytest.raises(ValueError, match="one class"):
        read(files)


def test_a_graph_without_edges(files):
    files[1].write_text("\n")
    assert read(files).edges.shape == (2, 0)


def test_wrong_edges_and_files(files, tmp_path):
    with pytest.raises(ValueError, match="three columns"):
        read(files, sensitive="SALARY")
    files[1].write_text("7 3 1\n")
    with pytest.raises(ValueError, match="two identifiers a line, and has 3"):
        read(files)
    files[1].write_text("7 33\n")
    with pytest.raises(ValueError, match="edge of node 33"):
        read(files)
    with pytest.raises(ValueError, match="unknown graph"):
        load_graph("german")
    with pytest.raises(FileNotFoundError, match=r"pokec/region_job\.csv"):
        load_graph("pokec_z", tmp_path)


@pytest.fixture
def faces(tmp_path):
    from PIL import Image

    listing = ["3", "Smiling Male"]
    for row, (smiling, male) in enumerate([(1, -1), (-1, 1), (1, 1)]):
        name = f"{row:06}.png"
        listing.append(f"{name}  {smiling} {male}")
        Image.fromarray(np.full((6, 4, 3), 100 * row, np.uint8)).save(tmp_path / name)
    (tmp_path / "list.txt").write_text("\n".join(listing) + "\n")
    return tmp_path


def test_faces_are_read(faces):
    dataset = celeba_from_files(faces / "list.txt", faces, label="Smiling", size=(4, 5))
    np.testing.assert_array_equal(dataset.y, [1, 0, 1])
    assert [dataset.group_names[g] for g in dataset.group] == ["not Male", "Male", "Male"]
    assert dataset.feature_shape == (4, 5, 3)
    np.testing.assert_allclose(dataset.x[:, 0], [0, 100 / 255, 200 / 255], rtol=1e-6)
    assert celeba_from_files(faces / "list.txt", faces, label="Smiling", num_images=2).y.size == 2


def test_wrong_faces(faces):
    listing = faces / "list.txt"
    with pytest.raises(ValueError, match="no attribute 'Bald'; it has Smiling, Male"):
        celeba_from_files(listing, faces, label="Bald")
    with pytest.raises(ValueError, match="two attributes"):
        celeba_from_files(listing, faces, label="Male")
    with pytest.raises(ValueError, match="'Smiling' has one value in the 1 images read"):
        celeba_from_files(listing, faces, label="Smiling", num_images=1)
    with pytest.raises(ValueError, match="num_images must be from 1 to 3"):
        celeba_from_files(listing, faces, label="Smiling", num_images=4)
    (faces / "000001.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"000001\.png"):
        celeba_from_files(listing, faces, label="Smiling")
    listing.write_text(listing.read_text().replace("-1", "0"))
    with pytest.raises(ValueError, match=r"image 1 .* values 1 or -1"):
        celeba_from_files(listing, faces, label="Smiling")
    listing.write_text("5\nSmiling Male\n")
    with pytest.raises(ValueError, match="has 2 lines"):
        celeba_from_files(listing, faces, label="Smiling")
