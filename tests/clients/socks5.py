"""A SOCKS5 proxy (RFC 1928) on 127.0.0.1: CONNECT without authentication."""

import ipaddress
import socket
import socketserver
import struct
import threading

VERSION, NO_AUTHENTICATION, CONNECT, SUCCEEDED, REFUSED = 5, 0, 1, 0, 5
IPV4, NAME, IPV6 = 1, 3, 4


class Socks5Proxy:
    """`with Socks5Proxy() as proxy`: serves at `proxy.address`, counts in `proxy.served_count`."""

    def __init__(self):
        self.served_count = 0
        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def handler(self):
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                with self.request as client, connected(client) as upstream:
                    proxy.served_count += 1
                    back = threading.Thread(target=copy, args=(upstream, client), daemon=True)
                    back.start()
                    copy(client, upstream)
                    back.join()

        return Handler


def connected(client):
    """Greets the client and connects to where it wants."""
    _, methods_count = read(client, 2)
    read(client, methods_count)
    client.sendall(bytes([VERSION, NO_AUTHENTICATION]))
    version, command, _, kind = read(client, 4)
    if (version, command) != (VERSION, CONNECT):
        raise ConnectionError(f"version {version}, command {command}")
    if kind == NAME:
        host = read(client, read(client, 1)[0]).decode()
    else:
        host = str(ipaddress.ip_address(read(client, {IPV4: 4, IPV6: 16}[kind])))
    [port] = struct.unpack(">H", read(client, 2))
    bound = bytes([0, IPV4, 0, 0, 0, 0, 0, 0])
    try:
        upstream = socket.create_connection((host, port), timeout=10)
    except OSError:
        client.sendall(bytes([VERSION, REFUSED]) + bound)
        raise
    upstream.settimeout(None)
    client.sendall(bytes([VERSION, SUCCEEDED]) + bound)
    return upstream


def read(client, count):
    parts = b""
    while len(parts) < count:
        part = client.recv(count - len(parts))
        if not part:
            raise ConnectionError("the client went away")
        parts += part
    return parts


def copy(source, target):
    try:
        while part := source.recv(65_536):
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # one side is gone: so is the other, soon
