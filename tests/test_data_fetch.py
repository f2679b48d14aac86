import functools
import hashlib
import http.server
import sys
import threading
from dataclasses import replace

import pooch
import pytest

from spikeloop.data.fetch import RemoteFile
from spikeloop.errors import DataError

CONTENT = b"ten bytes."
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NOWHERE = "http://127.0.0.1:9/"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.delenv("SPIKELOOP_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    folder = tmp_path / "cache"
    monkeypatch.setattr(pooch, "os_cache", lambda project: folder / project)
    return folder


@pytest.fixture
def source(tmp_path):
    """The address of a folder with the file, served on this machine."""
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "a.bin").write_bytes(CONTENT)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=tmp_path / "published")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def file_at(*sources: str) -> RemoteFile:
    return RemoteFile("some_set", "a.bin", SHA256, sources)


def test_the_folder_of_the_environment_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKELOOP_DATA", str(tmp_path))
    path = tmp_path / "some_set" / "a.bin"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    assert file_at(NOWHERE).locate() == path
    path.write_bytes(CONTENT + b"!")
    with pytest.raises(DataError, match=f"Expected: {SHA256}.*replace it"):
        file_at(NOWHERE).locate()


def test_download_once(cache, source, tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKELOOP_DATA", str(tmp_path / "empty"))
    path = file_at(source).locate()
    assert path == cache / "spikeloop" / "some_set" / "a.bin"
    assert path.read_bytes() == CONTENT
    assert file_at(NOWHERE).locate() == path


def test_the_next_source_helps_out(cache, source):
    assert file_at(NOWHERE, source).locate().read_bytes() == CONTENT


def test_a_wrong_download_is_refused(cache, source):
    with pytest.raises(DataError, match="not to be downloaded.*hash"):
        replace(file_at(source), sha256="0" * 64).locate()
    assert not (cache / "spikeloop" / "some_set" / "a.bin").exists()


def test_offline_says_where_to_put_the_file(cache):
    with pytest.raises(DataError, match="put a.bin into the folder some_set of the folder that SPIKELOOP_DATA names"):
        file_at(NOWHERE).locate()


def test_without_pooch_names_the_extra(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DataError, match=r"spikeloop\[cli\].*SPIKELOOP_DATA"):
        file_at(NOWHERE).locate()
