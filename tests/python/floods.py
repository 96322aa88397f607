"""Floods of HTTP/2, and heavy use that is none.

    floods.py ADDRESS:PORT HOST NAME...

Each NAME is a function below. It speaks HTTP/2 without TLS to that address, asks
the test guest at HOST, and prints one line of JSON: how many frames or requests were sent until the server
ended the connection (`sent`), whether it did (`ended`), with which GOAWAY code
(`goaway`), and how many answers came (`answers`).
"""

import json
import select
import socket
import struct
import sys
import time

import h2.config
import h2.connection
import h2.events
import hpack
from hyperframe import frame as frames

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW = 2**31 - 1
# A flood that has not been ended by then is not going to be.
MOST = 200_000
# More than the guests that earlier floods have left behind may take: instances are short until then.
PATIENCE = 40
# Whose guest is asked.
HOST = "p2.test"


class Ended(Exception):
    """The server has closed the connection."""


class Client:
    """A connection whose frames are written by hand."""

    def __init__(self, address, settings=None, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.encoder = hpack.Encoder()
        self.stream = -1
        self.sent = 0
        self.goaway = None
        self.answers = 0
        self.answered = set()
        self.resets = 0
        self.unread = b""
        self.reads = True
        self.write(PREFACE + frames.SettingsFrame(0, settings or {}).serialize())

    def write(self, data, count=0):
        """Sends, and reads what has come meanwhile, as a client that is not read would block."""
        self.sent += count
        end = time.monotonic() + PATIENCE
        while data:
            ready, writable, _ = select.select([self.socket], [self.socket], [], 1)
            if ready and self.reads:
                self.read()
            if writable:
                try:
                    data = data[self.socket.send(data):]
                except OSError:
                    self.read_last()
                    raise Ended from None
            elif time.monotonic() > end:
                raise TimeoutError("the server takes nothing")

    def read(self):
        try:
            data = self.socket.recv(1 << 16)
        except OSError:
            raise Ended from None
        if not data:
            raise Ended
        self.unread += data
        while len(self.unread) >= 9:
            head, length = frames.Frame.parse_frame_header(memoryview(self.unread[:9]))
            if len(self.unread) < 9 + length:
                return
            self.take(head, self.unread[9 : 9 + length])
            self.unread = self.unread[9 + length :]

    def take(self, head, body):
        if isinstance(head, frames.GoAwayFrame):
            code = struct.unpack(">I", body[4:8])[0]
            self.goaway = max(self.goaway or 0, code)
        elif isinstance(head, frames.HeadersFrame):
            self.answers += 1
            self.answered.add(head.stream_id)
        elif isinstance(head, frames.RstStreamFrame):
            self.resets += 1
        elif isinstance(head, frames.PingFrame) and "ACK" not in head.flags:
            answer = frames.PingFrame(0, bytes(body))
            answer.flags.add("ACK")
            self.write(answer.serialize())

    def is_taken(self):
        """Whether the server has read all that has come to it: its end has nothing in its buffer."""
        ours, theirs = (f":{name[1]:04X}" for name in (self.socket.getsockname(), self.socket.getpeername()))
        with open("/proc/net/tcp") as table:
            for line in table:
                _, local, remote, _, queues = line.split()[:5]
                if local.endswith(theirs) and remote.endswith(ours):
                    return int(queues.split(":")[1], 16) == 0
        return True

    def read_last(self):
        try:
            while True:
                self.read()
        except Ended:
            pass

    def wait(self, seconds):
        """Reads for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.socket], [], [], left)[0]:
                self.read()

    def wait_until(self, condition):
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError("the server does not answer")
            self.wait(0.001)

    def begin(self, path, method="GET", end=True, extra=()):
        """HEADERS of the next stream."""
        self.stream += 2
        head = [
            (":method", method),
            (":scheme", "http"),
            (":path", path),
            (":authority", HOST),
            *extra,
        ]
        frame = frames.HeadersFrame(self.stream, self.encoder.encode(head))
        frame.flags.add("END_HEADERS")
        if end:
            frame.flags.add("END_STREAM")
        return frame.serialize()

    def reset(self, stream):
        return frames.RstStreamFrame(stream, 8).serialize()


def raw(kind, flags, stream, body):
    return struct.pack(">IBBI", len(body), kind, flags, stream)[1:] + body


def flood(client, make, batch=16, wait_for_server=False):
    """Sends what `make` makes until the connection is ended.

    Where the flood keeps the server itself busy it may wait until that has read what was sent: else it
    is counted how long the server takes to look, and not when it judges what it sees.
    """
    end = time.monotonic() + PATIENCE
    try:
        while client.sent < MOST and time.monotonic() < end:
            client.write(b"".join(make() for _ in range(batch)), batch)
            client.wait(0.0005)
            while wait_for_server and not client.is_taken() and time.monotonic() < end:
                client.wait(0.0005)
    except Ended:
        return True
    return False


def simple(kind, flags, stream, body):
    """A flood of one and the same frame."""

    def run(address):
        client = Client(address)
        return client, flood(client, lambda: raw(kind, flags, stream, body))

    return run


def on_upload(make, path="/sleep?ms=30000"):
    """A flood on a stream that is being sent."""

    def run(address):
        client = Client(address)
        client.write(client.begin(path, "POST", end=False))
        client.wait(0.1)
        return client, flood(client, make)

    return run


def reset_at_once(address):
    client = Client(address)
    make = lambda: client.begin("/sleep?ms=500") + client.reset(client.stream)
    return client, flood(client, make, wait_for_server=True)


def reset_at_work(address):
    """Resets each stream when its guest has had the time to begin."""
    client = Client(address)
    end = time.monotonic() + PATIENCE
    try:
        while client.sent < MOST and time.monotonic() < end:
            first = client.stream
            client.write(b"".join(client.begin("/sleep?ms=500") for _ in range(10)))
            client.wait(0.01)
            resets = b"".join(client.reset(stream) for stream in range(first + 2, client.stream + 1, 2))
            client.write(resets, 10)
    except Ended:
        return client, True
    return client, False


def reset_after_head(address):
    """Resets each stream when its answer has begun."""
    client = Client(address)
    end = time.monotonic() + PATIENCE
    try:
        while client.sent < MOST and time.monotonic() < end:
            first = client.stream + 2
            client.write(b"".join(client.begin("/stream?bytes=1000000") for _ in range(20)))
            streams = range(first, client.stream + 1, 2)
            client.wait_until(lambda: client.answered.issuperset(streams))
            client.write(b"".join(client.reset(stream) for stream in streams), 20)
    except Ended:
        return client, True
    return client, False


def continuation(body):
    def run(address):
        client = Client(address)
        client.write(raw(1, 0, 1, client.encoder.encode([(":method", "GET")])))
        return client, flood(client, lambda: raw(9, 0, 1, body))

    return run


def continuation_blocks(address):
    """Many heads that are whole, each in more pieces than any head needs."""
    client = Client(address)

    def block():
        head = client.begin("/hello")
        head = bytearray(head)
        head[4] &= ~0x4  # not END_HEADERS
        pieces = raw(9, 0, client.stream, b"") * 4 + raw(9, 4, client.stream, b"")
        return bytes(head) + pieces

    return client, flood(client, block, 4)


def make_resets(make, path="/sleep?ms=30000", end=True):
    """Has the server reset the client's streams."""

    def run(address):
        client = Client(address)

        def one():
            return client.begin(path, "POST", end) + make(client)

        return client, flood(client, one, 4)

    return run


def too_many_streams(address):
    client = Client(address)
    return client, flood(client, lambda: client.begin("/sleep?ms=30000"))


def hpack_references(address):
    """Fills the table once, and refers to it thousands of times."""
    client = Client(address)
    client.write(client.begin("/hello", extra=[("x-bomb", "b" * 3900)]))
    index = bytes([0x80 | 62])
    head = client.encoder.encode([(":method", "GET"), (":scheme", "http"), (":path", "/hello"), (":authority", HOST)])

    def bomb():
        client.stream += 2
        return raw(1, 0x5, client.stream, head + index * (16_000 - len(head)))

    return client, flood(client, bomb, 1)


def hpack_table(address):
    """Asks for a table of 1 GiB."""
    client = Client(address)
    return client, flood(client, lambda: raw(1, 0x5, client.stream + 2, b"\x3f\xe1\xff\xff\xff\x03"))


def hpack_many(address):
    """Thousands of headers as short as can be."""
    client = Client(address)
    head = client.encoder.encode([(":method", "GET"), (":scheme", "http"), (":path", "/hello"), (":authority", HOST)])

    def bomb():
        client.stream += 2
        return raw(1, 0x5, client.stream, head + b"\x00\x01a\x00" * 4000)

    return client, flood(client, bomb, 1)


def settings_windows(address):
    """Opens and closes the window of every stream."""
    client = Client(address)
    client.write(b"".join(client.begin("/endless") for _ in range(100)))
    sizes = [b"\x00\x04\x7f\xff\xff\xff", b"\x00\x04\x00\x00\x00\x00"]

    def change():
        sizes.reverse()
        return raw(4, 0, 0, sizes[0])

    return client, flood(client, change)


def unread(settings, path, grow):
    """As many streams as there may be, and nothing is read. It holds them until it is killed."""

    def run(address):
        client = Client(address, settings, receive_buffer=4096)
        client.reads = False
        if grow:
            client.write(raw(8, 0, 0, struct.pack(">I", WINDOW - 65535)))
        for _ in range(128):
            client.write(client.begin(path), 1)
        print(json.dumps({"sent": client.sent}), flush=True)
        time.sleep(600)
        return client, False

    return run


def streaming(address):
    """What gRPC does: one stream, small messages both ways, each acknowledged, with pings between them."""
    client = Client(address)
    client.write(raw(4, 1, 0, b""))
    client.write(client.begin("/echo", "POST", end=False))
    stream = client.stream
    messages = 20_000
    for number in range(0, messages, 20):
        message = raw(0, 0, stream, b"\x00\x00\x00\x00\x05hello")
        update = raw(8, 0, 0, struct.pack(">I", 10)) + raw(8, 0, stream, struct.pack(">I", 10))
        client.write((message + update) * 20 + raw(6, 0, 0, b"bdp-ping"), 20)
        client.wait(0.002)
    client.write(raw(0, 1, stream, b""))
    client.wait(0.2)
    return client, client.resets > 0


def typing(address):
    """Uploads in chunks of one byte, 700 a second."""
    client = Client(address)
    client.write(client.begin("/discard", "POST", end=False))
    stream = client.stream
    for _ in range(300):
        client.write(raw(0, 0, stream, b"x") * 7, 7)
        client.wait(0.01)
    client.write(raw(0, 1, stream, b""))
    client.wait_until(lambda: stream in client.answered)
    return client, client.resets > 0


def browsing(address):
    """A page after the other, each with PRIORITY frames, and half of what it loads cancelled."""
    client = Client(address)
    client.write(b"".join(raw(2, 0, stream, b"\0\0\0\0\x10") for stream in (1003, 1005, 1007, 1009, 1011)))
    for _ in range(20):
        first = client.stream + 2
        for number in range(40):
            client.write(client.begin("/hello"), 1)
            client.write(raw(2, 0, client.stream, b"\0\0\0\0\x10"))
            client.write(raw(16, 0, 0, struct.pack(">I", client.stream) + b"u=3"))
        kept = range(first, first + 40, 2)
        client.write(b"".join(client.reset(stream) for stream in range(first + 40, client.stream + 1, 2)))
        client.wait_until(lambda: client.answered.issuperset(kept))
    return client, False


def library(address):
    """A thousand requests by a client that others wrote, ten at a time, each with a body."""
    config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
    connection = h2.connection.H2Connection(config)
    client = Client.__new__(Client)
    client.sent = client.answers = 0
    client.goaway = None
    client.socket = socket.create_connection(address)
    connection.initiate_connection()
    head = [(":method", "POST"), (":scheme", "http"), (":path", "/echo"), (":authority", HOST)]
    while client.answers < 1000:
        for _ in range(10):
            stream = connection.get_next_available_stream_id()
            connection.send_headers(stream, head)
            connection.send_data(stream, b"x" * 1000, end_stream=True)
            client.sent += 1
        client.socket.sendall(connection.data_to_send())
        awaited = 10
        while awaited:
            data = client.socket.recv(1 << 16)
            if not data:
                return client, True
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    awaited -= 1
                    client.answers += 1
                elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
                    return client, True
            client.socket.sendall(connection.data_to_send())
    return client, False


ALL = {
    "reset-at-once": reset_at_once,
    "reset-at-work": reset_at_work,
    "reset-after-head": reset_after_head,
    "continuation-empty": continuation(b""),
    "continuation-full": continuation(b"\x00\x01a\x7f\x80\x7f" + b"v" * 16_000),
    "continuation-blocks": continuation_blocks,
    "ping": simple(6, 0, 0, b"12345678"),
    "ping-ack": simple(6, 1, 0, b"12345678"),
    "settings": simple(4, 0, 0, b""),
    "settings-ack": simple(4, 1, 0, b""),
    "settings-windows": settings_windows,
    "priority": simple(2, 0, 1, b"\0\0\0\0\x10"),
    "priority-update": simple(16, 0, 0, b"\0\0\0\1u=1"),
    "window-update": simple(8, 0, 0, b"\0\0\0\1"),
    "window-update-stream": on_upload(lambda: raw(8, 0, 1, b"\0\0\0\1")),
    "data-empty": on_upload(lambda: raw(0, 0, 1, b"")),
    "data-empty-read": on_upload(lambda: raw(0, 0, 1, b""), "/discard"),
    "data-byte": on_upload(lambda: raw(0, 0, 1, b"x")),
    "data-byte-read": on_upload(lambda: raw(0, 0, 1, b"x"), "/discard"),
    "data-padded": on_upload(lambda: raw(0, 8, 1, b"\xff" + bytes(255)), "/discard"),
    "unknown": simple(0xB7, 0, 0, b"?"),
    "made-reset-window-zero": make_resets(lambda c: raw(8, 0, c.stream, bytes(4))),
    "made-reset-window-overflow": make_resets(lambda c: raw(8, 0, c.stream, b"\x7f\xff\xff\xff")),
    "made-reset-data-after-end": make_resets(lambda c: raw(0, 0, c.stream, b"late")),
    "made-reset-priority-self": make_resets(
        lambda c: raw(2, 0, c.stream, struct.pack(">I", c.stream) + b"\x10")
    ),
    "made-reset-length": make_resets(lambda c: raw(0, 1, c.stream, b"x"), end=False),
    "too-many-streams": too_many_streams,
    "hpack-references": hpack_references,
    "hpack-table": hpack_table,
    "hpack-many": hpack_many,
}

# Chunks that are small in the guest, so that its memory is not taken for the server's.
STREAM = "/stream?bytes=100000000&chunk=4000"

UNREAD = {
    # Windows as wide as can be, and a socket that is not read.
    "unread-socket": unread({4: WINDOW}, STREAM, True),
    # The same from guests that write as much at once as they can.
    "unread-wide": unread({4: WINDOW}, "/stream?bytes=100000000&chunk=65536", True),
    # Windows that are closed: no byte of any answer can leave.
    "unread-windows": unread({4: 0}, STREAM, False),
    # The same for answers that fit into the server's memory, so that their guests end.
    "unread-answers": unread({4: 0}, "/stream?bytes=40000&chunk=4000", False),
}

USE = {"streaming": streaming, "typing": typing, "browsing": browsing, "library": library}


def main():
    global HOST
    host, port = sys.argv[1].rsplit(":", 1)
    HOST = sys.argv[2]
    for name in sys.argv[3:]:
        begun = time.monotonic()
        client, ended = (ALL | UNREAD | USE)[name]((host, int(port)))
        if ended:
            client.socket.close()
        figures = {
            "name": name,
            "sent": client.sent,
            "ended": ended,
            "goaway": client.goaway,
            "answers": client.answers,
            "seconds": round(time.monotonic() - begun, 3),
        }
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
