"""Downloads from a server of our own: good, truncated, tampered, slow, and not there."""

import dataclasses
import http.server
import io
import os
import threading
import time
import zipfile

import pytest

from badrjax.datasets import dataset_info, fetch_dataset, fetching, load_dataset, registry, verify_dataset
from badrjax.datasets.fetching import fetch_file
from badrjax.datasets.files import DataFile, cache_directory, find, read_file, sha256

GOOD = b"age,sex\n" + b"41,F\n" * 20_000
PAGE = b"<!DOCTYPE html>\n<html><body>Moved</body></html>\n"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        getattr(self, self.path.strip("/").replace(".", "_"), self.nothing)()

    def answer(self, content, length=None, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def nothing(self):
        self.answer(PAGE, status=404)

    def good_csv(self):
        self.answer(GOOD)

    def tampered_csv(self):
        self.answer(GOOD.replace(b"41", b"42", 1))

    def page_csv(self):
        self.answer(PAGE)

    def truncated_csv(self):
        self.answer(GOOD[:1000], length=len(GOOD))

    def short_csv(self):
        self.answer(GOOD[:1000])

    def slow_csv(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(GOOD)))
        self.end_headers()
        self.wfile.write(GOOD[:10])
        self.wfile.flush()
        time.sleep(3)

    def empty_csv(self):
        self.answer(b"")

    def damaged_zip(self):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("good.csv", GOOD)
        content = bytearray(stream.getvalue())
        content[500] ^= 1
        self.answer(bytes(content))

    def hollow_zip(self):
        self.answer(b"PK\x05\x06" + bytes(18))

    def archive_zip(self):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("folder/good.csv", GOOD)
            archive.writestr("../../escaped.csv", b"out")
        self.answer(stream.getvalue())

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, daemon=True).start()
        running.url = f"http://127.0.0.1:{running.server_address[1]}"
        yield running
        running.shutdown()


def file_at(server, name, **changes):
    return DataFile("made/good.csv", **({"sha256": sha256(GOOD), "url": f"{server.url}/{name}"} | changes))


def left_in_cache():
    directory = cache_directory()
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def test_a_good_file_is_put_in_place_whole(server):
    path = fetch_file(file_at(server, "good.csv"))
    assert path == cache_directory() / "made/good.csv"
    assert path.read_bytes() == GOOD
    assert left_in_cache() == ["made/good.csv"]
    assert find(file_at(server, "good.csv"), None) == path


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("tampered.csv", ValueError, "is not the published data and was not used: its SHA-256 is"),
        ("short.csv", ValueError, r"it has 1,000 bytes"),
        ("page.csv", ValueError, "it is a web page, not data"),
        ("truncated.csv", ConnectionError, r"truncated\.csv could not be downloaded"),
        ("slow.csv", ConnectionError, r"slow\.csv could not be downloaded .*[Tt]ime"),
        ("absent.csv", ConnectionError, r"absent\.csv could not be downloaded .*404"),
    ],
)
def test_anything_else_is_refused_and_leaves_nothing(server, monkeypatch, name, error, message):
    monkeypatch.setattr(fetching, "_TIMEOUT_SECONDS", 0.3)
    with pytest.raises(error, match=message):
        fetch_file(file_at(server, name))
    assert left_in_cache() == []


def test_a_refused_connection_is_a_connection_error():
    with pytest.raises(ConnectionError, match="could not be downloaded"):
        fetch_file(DataFile("made/good.csv", sha256(GOOD), "http://127.0.0.1:9/good.csv"))
    assert left_in_cache() == []


def test_a_failed_download_keeps_the_file_that_was_there(server):
    path = fetch_file(file_at(server, "good.csv"))
    with pytest.raises(ValueError, match="not the published data"):
        fetch_file(file_at(server, "tampered.csv"))
    assert path.read_bytes() == GOOD


def test_a_member_of_an_archive_is_taken_out_and_checked(server):
    path = fetch_file(file_at(server, "archive.zip", member="folder/good.csv"))
    assert path.read_bytes() == GOOD
    assert left_in_cache() == ["made/good.csv"]
    with pytest.raises(ValueError, match=r"has no file 'good\.csv' \(it has folder/good\.csv, "):
        fetch_file(file_at(server, "archive.zip", member="good.csv"))
    with pytest.raises(ValueError, match="is not a whole zip or tar archive"):
        fetch_file(file_at(server, "good.csv", member="good.csv"))


def test_an_unpinned_file_is_taken_only_when_asked_and_pinned_from_then_on(server):
    file = file_at(server, "good.csv", sha256="")
    with pytest.raises(ValueError, match=r"no SHA-256 is published for made/good\.csv"):
        fetch_file(file)
    path = fetch_file(file, unpinned=True)
    assert find(file, None) == path
    assert read_file(path, file, "") == GOOD
    path.write_bytes(GOOD + b"more")
    with pytest.raises(ValueError, match=r"good\.csv is not what was downloaded: .*remove both and get it again"):
        read_file(path, file, "")
    assert path.read_bytes() == GOOD + b"more"


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("page.csv", "made/good.csv", "a web page came from"),
        ("empty.csv", "made/good.csv", "nothing came from"),
        ("good.csv", "made/good.zip", "is not a whole zip or tar archive"),
        ("damaged.zip", "made/good.zip", r"is not a whole zip archive \(good\.csv is damaged\)"),
        ("hollow.zip", "made/good.zip", "is not a whole zip archive"),
    ],
)
def test_an_unpinned_file_must_at_least_be_whole(server, name, path, message):
    file = dataclasses.replace(file_at(server, name, sha256=""), path=path)
    with pytest.raises(ValueError, match=message):
        fetch_file(file, unpinned=True)
    assert left_in_cache() == []


def test_a_file_that_the_user_put_into_the_cache_is_never_removed(server):
    mine = cache_directory() / "made/good.csv"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(GOOD)
    file = file_at(server, "good.csv", sha256="")
    assert find(file, None) == mine
    assert mine.read_bytes() == GOOD


@pytest.mark.parametrize("note", [f"{sha256(GOOD)}  good.csv\n", sha256(GOOD).upper(), "garbage", "", "\xe9\xff"])
def test_what_lies_beside_a_file_without_a_pinned_sum_never_costs_it(server, note):
    file = file_at(server, "good.csv", sha256="")
    mine = cache_directory() / "made/good.csv"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(GOOD)
    (mine.parent / "good.csv.sha256").write_text(note, "latin-1")
    assert read_file(find(file, None), file, "") == GOOD
    (mine.parent / "good.csv.sha256").write_text("0" * 64)
    with pytest.raises(ValueError, match="is not what was downloaded"):
        read_file(find(file, None), file, "")
    assert mine.exists()


def test_what_a_killed_download_left_is_removed_after_a_day(server):
    old, new = (cache_directory() / name for name in ("part-old", "part-new"))
    for part in (old, new):
        part.mkdir(parents=True)
        (part / "download").write_bytes(b"half")
    os.utime(old, (0, 0))
    fetch_file(file_at(server, "good.csv"))
    assert (old.exists(), new.exists()) == (False, True)


def test_a_cache_that_cannot_be_written_is_said(server, monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ConnectionError, match=r"made/good\.csv could not be put into the cache .*XDG_CACHE_HOME"):
        fetch_file(file_at(server, "good.csv"))


def test_fetching_does_not_call_a_wrong_file_of_the_users_a_success(server, german_online, tmp_path):
    (tmp_path / "german").mkdir()
    (tmp_path / "german/german.data").write_bytes(PAGE)
    with pytest.raises(ValueError, match="is not the published data"):
        fetch_dataset("german", data_home=tmp_path)
    assert [found.state for found in verify_dataset("german", data_home=tmp_path)] == ["wrong"]


def test_verifying_removes_nothing(server, german_online):
    load_dataset("german")
    cached = cache_directory() / "german/german.data"
    cached.write_bytes(b"spoilt")
    assert [found.state for found in verify_dataset("german")] == ["wrong"]
    assert cached.read_bytes() == b"spoilt"


def test_a_file_without_an_address_is_not_fetched():
    with pytest.raises(ValueError, match="has no address"):
        fetch_file(DataFile("made/good.csv", sha256(GOOD)))


def test_a_spoilt_file_in_the_cache_is_removed_and_not_found(server):
    file = file_at(server, "good.csv")
    fetch_file(file).write_bytes(GOOD[:-1])
    assert find(file, None) is None
    assert left_in_cache() == []


@pytest.fixture
def german_online(server, monkeypatch, real_german):
    """German Credit without a bundled copy, its file on the server."""
    content, file = real_german
    monkeypatch.setattr(Handler, "german_data", lambda self: self.answer(content), raising=False)
    file = dataclasses.replace(file, url=f"{server.url}/german.data")
    entry = dataclasses.replace(dataset_info("german"), bundle=None, files=((file,),))
    monkeypatch.setitem(registry._ENTRIES, "german", entry)
    return entry


@pytest.fixture
def real_german():
    """The published file, made again from the bundled copy."""
    entry = dataset_info("german")
    file = entry.files[0][0]
    return _german_content(), file


def _german_content():
    from badrjax.datasets.files import read_bundled
    from badrjax.datasets.german import BUNDLE, COLUMNS
    from badrjax.datasets.packing import unpack_table
    from badrjax.datasets.tables import Categories

    table = unpack_table(read_bundled(BUNDLE, ""))
    texts = [
        column.text() if isinstance(column, Categories) else column.astype(int).astype(str)
        for column in (table[name] for name in COLUMNS)
    ]
    return "".join(" ".join(values) + "\n" for values in zip(*texts, strict=True)).encode()


def test_load_dataset_downloads_once_and_then_reads_the_cache(server, german_online):
    first = load_dataset("german")
    assert (first.x.shape, server.asked) == ((1_000, 61), ["/german.data"])
    second = load_dataset("german")
    assert server.asked == ["/german.data"]
    assert (first.x == second.x).all()
    assert first.checksums == {"german/german.data": german_online.files[0][0].sha256}


def test_a_spoilt_cache_is_downloaded_again(server, german_online):
    load_dataset("german")
    (cache_directory() / "german/german.data").write_bytes(b"spoilt")
    assert load_dataset("german").y.size == 1_000
    assert server.asked == ["/german.data"] * 2


def test_data_home_comes_before_the_cache_and_is_never_touched(server, german_online, tmp_path):
    load_dataset("german")
    (tmp_path / "german").mkdir()
    mine = tmp_path / "german/german.data"
    mine.write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"german\.data is not the published data"):
        load_dataset("german", data_home=tmp_path)
    assert mine.read_bytes() == b"mine"


def test_download_can_be_switched_off(server, german_online):
    with pytest.raises(FileNotFoundError, match=r"german needs german/german\.data, not to be found"):
        load_dataset("german", download=False)
    assert server.asked == []


def test_a_failed_download_says_how_to_get_the_file(server, german_online, monkeypatch):
    monkeypatch.setattr(Handler, "german_data", lambda self: self.answer(PAGE))
    with pytest.raises(FileNotFoundError, match=r"could not be downloaded: .*web page.*get them from .*data_home"):
        load_dataset("german")
    assert left_in_cache() == []


def test_fetch_dataset_says_where_the_files_lie(server, german_online, tmp_path):
    assert fetch_dataset("german") == [cache_directory() / "german/german.data"]
    assert fetch_dataset("german") == [cache_directory() / "german/german.data"]
    assert server.asked == ["/german.data"]
    assert [state.state for state in verify_dataset("german")] == ["verified"]
