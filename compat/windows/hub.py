"""hub.py FILE: a model hub on the loopback with one model of one file, some/Model:Q8_0. It prints its port, sends half of the file
to whoever asks first, and then what is asked for; each range that was asked for is a line."""

import hashlib
import http.server
import json
import re
import sys

CONTENT = open(sys.argv[1], "rb").read()
NAME = "m-Q8_0.gguf"


class Answer(http.server.BaseHTTPRequestHandler):
    has_cut = False

    def do_GET(self):
        if self.path.startswith("/api/models/some/Model/revision/main"):
            about = {"sha256": hashlib.sha256(CONTENT).hexdigest(), "size": len(CONTENT)}
            files = [{"rfilename": NAME, "size": len(CONTENT), "lfs": about}]
            body = json.dumps({"sha": "c0ffee", "tags": ["license:mit"], "siblings": files}).encode()
            self.say(200, body, len(body))
        elif self.path == f"/some/Model/resolve/c0ffee/{NAME}":
            asked = re.match(r"bytes=(\d+)-$", self.headers.get("range", ""))
            print(f"from {asked[1] if asked else 0}", flush=True)
            if not Answer.has_cut:
                Answer.has_cut = True
                self.say(200, CONTENT[: len(CONTENT) // 2], len(CONTENT))
            elif asked:
                start, end = int(asked[1]), len(CONTENT) - 1
                self.say(206, CONTENT[start:], len(CONTENT) - start, f"bytes {start}-{end}/{len(CONTENT)}")
            else:
                self.say(200, CONTENT, len(CONTENT))
        else:
            self.say(404, b"", 0)

    def say(self, status, body, length, part=None):
        self.send_response(status)
        self.send_header("content-length", str(length))
        if part:
            self.send_header("content-range", part)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
print(server.server_port, flush=True)
server.serve_forever()
