import io
import tarfile
import zipfile

import pytest

from badrjax.datasets import archives
from badrjax.datasets.archives import find_member, member_names, read_member


def make_zip(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def make_tar(members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            if isinstance(content, str):
                header.type, header.linkname = tarfile.SYMTYPE, content
                archive.addfile(header)
            else:
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content))
    return stream.getvalue()


MEMBERS = {"folder/Table.csv": b"a,b\n" * 5_000, "readme.txt": b"hello"}


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_members_are_read_by_their_whole_name(make):
    content = make(MEMBERS)
    assert member_names(content, "x") == list(MEMBERS)
    assert {name: read_member(content, name, "x") for name in MEMBERS} == MEMBERS
    assert find_member(content, "table.CSV", "x") == "folder/Table.csv"
    with pytest.raises(ValueError, match=r"x\.zip has no file 'Table\.csv' \(it has folder/Table\.csv, readme\.txt\)"):
        read_member(content, "Table.csv", "x.zip")


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("cut", [1, 40, 0.5])
def test_a_part_of_an_archive_is_refused(make, cut):
    content = make(MEMBERS)
    part = content[:-cut] if cut >= 1 else content[: int(len(content) * cut)]
    with pytest.raises(ValueError, match="is not a whole zip or tar archive"):
        read_member(part, "folder/Table.csv", "x")


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"PK\x03\x04 not really"])
def test_what_is_no_archive_is_refused(content):
    with pytest.raises(ValueError, match="is not a whole zip or tar archive"):
        member_names(content, "x")


def test_a_flipped_bit_in_a_zip_member_is_noticed():
    content = bytearray(make_zip({"a.csv": bytes(range(256)) * 40}))
    content[60] ^= 1
    with pytest.raises(ValueError, match="is not a whole zip or tar archive"):
        read_member(bytes(content), "a.csv", "x")


def test_paths_that_lead_out_are_names_like_others_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = make_zip({"../outside.csv": b"1", "/root.csv": b"2"})
    assert read_member(content, "../outside.csv", "x") == b"1"
    assert list(tmp_path.iterdir()) == []
    assert not (tmp_path.parent / "outside.csv").exists()


def test_links_are_not_followed():
    content = make_tar({"link.csv": "/etc/hostname", "real.csv": b"1"})
    assert member_names(content, "x") == ["real.csv"]
    with pytest.raises(ValueError, match=r"has no file 'link\.csv'"):
        read_member(content, "link.csv", "x")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_member_that_would_fill_the_memory_is_refused(make, monkeypatch):
    monkeypatch.setattr(archives, "_LARGEST_MEMBER", 1_000)
    with pytest.raises(ValueError, match=r"'a\.csv' in x would unpack to 1,001 bytes"):
        read_member(make({"a.csv": bytes(1_001)}), "a.csv", "x")


def test_two_members_of_one_base_name_are_refused():
    with pytest.raises(ValueError, match=r"has 2 file 'a\.csv'"):
        find_member(make_zip({"one/a.csv": b"1", "two/A.csv": b"2"}), "a.csv", "x")
