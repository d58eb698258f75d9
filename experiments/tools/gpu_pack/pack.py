"""Writes a .tar.xz that depends on names, bytes and whether a file is a program alone.

usage: python3 pack.py OUT.tar.xz [FILE-OR-FOLDER NAME]…

lzma packs Deno smaller than gzip. Preset 1 takes a fifth of the time of preset 6 and makes an eighth more.
"""

import sys
import tarfile


def plain(info):
    info.mtime = info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
    return info


_, out, *pairs = sys.argv
with tarfile.open(out, "w:xz", preset=1, dereference=True) as archive:
    for source, name in zip(pairs[::2], pairs[1::2]):
        archive.add(source, name, filter=plain)
