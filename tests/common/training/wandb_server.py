"""A stand-in for W&B's server: speaks as much of its protocol as a run needs, and keeps what it was sent."""

from __future__ import annotations

import gzip
import http.server
import json
import threading
from typing import Any

KEY = "0" * 40


class StandIn(http.server.ThreadingHTTPServer):
    """Listens on a free port of this machine.

    Args:
        status: of every reply; 200 accepts, 401 refuses the key.

    Attributes:
        runs: variables of each mutation that made or changed a run.
        rows: histories, in the order they came.
        summary: the last of each value.
    """

    def __init__(self, status: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = status
        self.runs: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    server: StandIn

    def do_GET(self) -> None:
        self.reply({})

    def do_PUT(self) -> None:
        self.body()
        self.reply({})

    def do_POST(self) -> None:
        body = self.body()
        if self.path.endswith("/graphql"):
            request = json.loads(body)
            self.reply(self.graphql(request["query"], request.get("variables") or {}))
        elif self.path.endswith("/file_stream"):
            self.keep(json.loads(body))
            self.reply({"limits": {}})
        else:
            self.reply({})

    def body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "upsertBucket" in query:
            self.server.runs.append(variables)
            bucket = {
                "id": "cnVu", "name": variables["name"], "displayName": variables.get("displayName"), "description": "",
                "config": "{}", "sweepName": None, "historyLineCount": 0,
                "project": {"id": "cHJv", "name": variables["project"], "entity": {"id": "ZW50", "name": "me"}},
            }  # fmt: skip
            return {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.server.address}/{name}"} for name in variables["files"]]
            return {"data": {"createRunFiles": {"runID": "cnVu", "uploadHeaders": [], "files": files}}}
        if "RunResumeStatus" in query:
            return {"data": {"model": None}}
        if "viewer" in query:
            user = {"id": "dXNl", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}
            return {"data": {"viewer": user}}
        return {"data": {}}

    def keep(self, content: dict[str, Any]) -> None:
        files = content.get("files") or {}
        self.server.rows += [json.loads(line) for line in files.get("wandb-history.jsonl", {}).get("content", [])]
        for line in files.get("wandb-summary.json", {}).get("content", []):
            self.server.summary |= json.loads(line)

    def reply(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""
