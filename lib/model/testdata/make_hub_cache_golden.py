"""Writes hub_cache_golden.json: what Python's huggingface_hub puts into its cache, from a small hub of its own.

usage: python3 make_hub_cache_golden.py > hub_cache_golden.json       (written with huggingface_hub 1.33.0)
"""
import hashlib
import http.server
import json
import os
import tempfile
import threading

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# Name, content, and whether it is kept as a large file, whose ETag is a SHA-256.
FILES = [("config.json", b'{"a": 1}', False), ("model.safetensors", b"weights", True), ("sub/small.Q8_0.gguf", b"GGUF", True)]


def etag(content, large):
    return hashlib.sha256(content).hexdigest() if large else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, body, headers):
        self.send_response(200)
        for name, value in dict(headers, **{"Content-Length": len(body)}).items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self):
        if self.path.startswith("/api/models/org/name/revision/"):
            about = dict(id="org/name", sha=COMMIT, siblings=[dict(rfilename=name) for name, _, _ in FILES])
            return self.answer(json.dumps(about).encode(), {"Content-Type": "application/json"})
        for name, content, large in FILES:
            if self.path.split("?")[0].endswith("/" + name):
                tag = f'"{etag(content, large)}"'
                return self.answer(content, {"ETag": tag, "X-Linked-Etag": tag, "X-Linked-Size": len(content), "X-Repo-Commit": COMMIT})
        self.send_error(404)

    do_HEAD = do_GET


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ.update(HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_XET="1")
    import huggingface_hub
    with tempfile.TemporaryDirectory() as cache:
        for name, _, _ in FILES:
            huggingface_hub.hf_hub_download("org/name", name, cache_dir=cache)
        huggingface_hub.hf_hub_download("org/name", "config.json", revision="v1/x", cache_dir=cache)
        listing = {}
        for folder, _, names in os.walk(cache):
            for name in names:
                path = os.path.join(folder, name)
                key = os.path.relpath(path, cache)
                listing[key] = "-> " + os.readlink(path) if os.path.islink(path) else open(path).read()
    server.shutdown()
    files = [dict(name=name, content=content.decode(), etag=etag(content, large)) for name, content, large in FILES]
    print(json.dumps(dict(huggingface_hub=huggingface_hub.__version__, commit=COMMIT, files=files,
                          listing=dict(sorted(listing.items()))), indent=2))


main()
