"""Writes a .tgz that depends only on names, bytes and whether a file is a program.

Usage: python3 pack.py OUT.tgz [FILE-OR-FOLDER NAME]…
"""

import gzip
import sys
import tarfile


def plain(info):
    info.mtime = info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
    return info


_, out, *pairs = sys.argv
with open(out, "wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
    with tarfile.open(fileobj=packed, mode="w", dereference=True) as archive:
        for source, name in zip(pairs[::2], pairs[1::2]):
            archive.add(source, name, filter=plain)
