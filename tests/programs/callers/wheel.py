"""Makes a tiny wheel and a simple index of it: wheel.py FOLDER."""

import base64
import hashlib
import pathlib
import sys
import zipfile

NAME, VERSION = "relay_tiny", "1.0"
INFO = f"{NAME}-{VERSION}.dist-info"
FILES = {
    f"{NAME}.py": 'WORD = "carried"\n',
    f"{INFO}/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}

folder = pathlib.Path(sys.argv[1]) / "relay-tiny"
folder.mkdir(parents=True)
wheel = folder / f"{NAME}-{VERSION}-py3-none-any.whl"
record = ""
for path, text in FILES.items():
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    record += f"{path},sha256={digest},{len(text)}\n"
with zipfile.ZipFile(wheel, "w") as archive:
    for path, text in FILES.items():
        archive.writestr(path, text)
    archive.writestr(f"{INFO}/RECORD", record + f"{INFO}/RECORD,,\n")
digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
link = f'<a href="{wheel.name}#sha256={digest}">{wheel.name}</a>'
(folder / "index.html").write_text(f"<!DOCTYPE html><html><body>{link}</body></html>")
