#!/usr/bin/env python3
"""Runs a command in an image's root, and says whether it found a server by a name that only DNS knows.

  names.py ROOT COMMAND...    as root, in a network namespace of its own; the command is to call http://bucket.example:8080
"""

import http.server
import os
import pathlib
import socket
import struct
import subprocess
import sys
import threading

asked = []


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.headers["Host"])
        self.send_error(404)

    do_PUT = do_HEAD = do_POST = do_GET

    def log_message(self, *_):
        pass


def answer(dns):
    """127.0.0.2 for every question for an IPv4 address, nothing for others (RFC 1035, section 4)."""
    while True:
        question, client = dns.recvfrom(512)
        end = question.index(b"\0", 12) + 5
        found = struct.unpack(">H", question[end - 4 : end - 2])[0] == 1
        header = question[:2] + b"\x81\x80" + struct.pack(">HHHH", 1, int(found), 0, 0)
        record = b"\xc0\x0c" + struct.pack(">HHIH4s", 1, 1, 60, 4, socket.inet_aton("127.0.0.2"))
        dns.sendto(header + question[12:end] + (record if found else b""), client)


def enter(root):
    os.chroot(root)
    os.chdir("/")
    os.setgroups([])
    os.setgid(65532)
    os.setuid(65532)


def main(root, *command):
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    dns.bind(("127.0.0.1", 53))
    threading.Thread(target=answer, args=(dns,), daemon=True).start()
    web = http.server.ThreadingHTTPServer(("127.0.0.2", 8080), Server)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    # What kubelet writes into each Pod.
    (pathlib.Path(root) / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
    ended = subprocess.run(command, preexec_fn=lambda: enter(root), capture_output=True, text=True, timeout=120)
    if not any("bucket.example" in host for host in asked):
        sys.exit(f"the name was not resolved; the server was asked for {asked}: {ended.stdout}{ended.stderr}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
