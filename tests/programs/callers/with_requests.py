"""Callers by the requests package."""

import sys

import case
import requests


def uploads_from_a_generator(url):
    size = 16 * case.MIB
    told = requests.post(f"{url}/sum", data=case.pieces(size), timeout=60).json()
    assert (told["bytes"], told["sha256"]) == case.digest(case.pieces(size)), told


def downloads_piece_by_piece(url):
    with requests.get(f"{url}/files/big", stream=True, timeout=60) as response:
        assert response.status_code == 200, response.text
        assert case.digest(response.iter_content(64 * 1024)) == case.file_digest("big")


def resumes_only_the_same_version(url):
    whole = (case.folder() / "big").read_bytes()
    tag = requests.head(f"{url}/files/big", timeout=60).headers["ETag"]
    middle = len(whole) // 2

    def part(wanted, version=tag):
        headers = {"Range": wanted, "If-Range": version}
        return requests.get(f"{url}/files/big", headers=headers, timeout=60)

    rest = part(f"bytes={middle}-")
    assert (rest.status_code, rest.content == whole[middle:]) == (206, True)
    assert rest.headers["Content-Range"] == f"bytes {middle}-{len(whole) - 1}/{len(whole)}"
    few = part("bytes=10-19")
    assert (few.status_code, few.content) == (206, whole[10:20])
    last = part("bytes=-5")
    assert (last.status_code, last.content) == (206, whole[-5:])
    other = part(f"bytes={middle}-", '"another version"')
    assert (other.status_code, other.content == whole) == (200, True)
    beyond = part(f"bytes={len(whole)}-")
    assert (beyond.status_code, beyond.content) == (416, b"")
    assert beyond.headers["Content-Range"] == f"bytes */{len(whole)}"


def sees_that_a_download_was_cut(url):
    seen = 0
    try:
        with requests.get(f"{url}/cut/big", stream=True, timeout=60) as response:
            assert response.status_code == 200, response.text
            for piece in response.iter_content(64 * 1024):
                seen += len(piece)
    except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError):
        assert seen <= (case.folder() / "big").stat().st_size // 2
        return
    raise AssertionError(f"a body cut off at the origin looked finished after {seen} bytes")


case.run(sys.modules[__name__])
