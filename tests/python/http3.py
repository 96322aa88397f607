"""A client of HTTP/3 that is not ours.

    http3.py ADDRESS:PORT HOST CA NAME [JSON]

NAME is a function below, which speaks to that address as to HOST, trusts the root certificates in
the file CA, and is given what the JSON says. It prints one line of JSON, or some.
"""

import asyncio
import hashlib
import json
import ssl
import sys
import time

import aioquic.asyncio.client
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.buffer import Buffer, encode_uint_var
from aioquic.h3.connection import H3_ALPN, FrameType, H3Connection, encode_frame
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicFrameType
from cryptography.hazmat.primitives import hashes
from aioquic.quic.events import (
    ConnectionTerminated, HandshakeCompleted, StopSendingReceived, StreamDataReceived, StreamReset,
)

PATIENCE = 30
REQUEST_CANCELLED = 0x10C
REQUEST_REJECTED = 0x10B

ADDRESS, HOST, CA = "", "", ""


class Answer:
    """What has come on one stream."""

    def __init__(self):
        self.status = None
        self.headers = {}
        self.trailers = {}
        self.body = b""
        self.reset = None
        self.stopped = None
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()

    def figures(self):
        text = self.body[:300].decode("utf-8", "replace")
        return {
            "status": self.status, "headers": self.headers, "trailers": self.trailers,
            "length": len(self.body), "sha256": hashlib.sha256(self.body).hexdigest(), "text": text,
            "reset": self.reset, "stopped": self.stopped, "ended": self.ended.is_set(),
        }


class Http(H3Connection):
    def _check_content_length(self, stream):
        """An answer to HEAD has a length and no body, which aioquic takes for an error."""
        if stream.content_length > 0:
            super()._check_content_length(stream)


class Client(QuicConnectionProtocol):
    """A connection. Its requests are begun at once and waited for by their streams."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = Http(self._quic)
        self.answers = {}
        self.goaways = []
        self.control = b""
        self.terminated = None
        self.handshake = None

    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            self.handshake = event
        elif isinstance(event, ConnectionTerminated):
            self.terminated = event
            for answer in self.answers.values():
                answer.begun.set()
                answer.ended.set()
        elif isinstance(event, StreamReset) and event.stream_id in self.answers:
            self.answers[event.stream_id].reset = event.error_code
            self.answers[event.stream_id].begun.set()
            self.answers[event.stream_id].ended.set()
        elif isinstance(event, StopSendingReceived) and event.stream_id in self.answers:
            self.answers[event.stream_id].stopped = event.error_code
        elif isinstance(event, StreamDataReceived) and event.stream_id == 3:
            self.control += event.data
            self.goaways = goaways(self.control)
        for event in self.http.handle_event(event):
            answer = self.answers.get(event.stream_id)
            if answer is None:
                continue
            if isinstance(event, HeadersReceived):
                headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
                if answer.status is None:
                    answer.status = int(headers.pop(":status"))
                    answer.headers = headers
                    answer.begun.set()
                else:
                    answer.trailers = headers
            elif isinstance(event, DataReceived):
                answer.body += event.data
            if event.stream_ended:
                answer.ended.set()

    def begin(self, method="GET", path="/", headers=(), body=None, trailers=None, authority=None,
              finish=True):
        stream = self._quic.get_next_available_stream_id()
        self.answers[stream] = Answer()
        head = [(":method", method), (":scheme", "https"), (":authority", authority or HOST),
                (":path", path), *headers]
        head = [(name.encode(), value.encode()) for name, value in head]
        alone = finish and body is None and trailers is None
        self.http.send_headers(stream, head, end_stream=alone)
        if body is not None:
            self.http.send_data(stream, body, end_stream=finish and trailers is None)
        if trailers is not None:
            fields = [(name.encode(), value.encode()) for name, value in trailers]
            self.http.send_headers(stream, fields, end_stream=finish)
        self.transmit()
        return stream

    async def answer(self, stream):
        answer = self.answers[stream]
        await asyncio.wait_for(answer.ended.wait(), PATIENCE)
        return answer

    async def ask(self, **request):
        return await self.answer(self.begin(**request))

    def send(self, stream, data, end=False):
        self._quic.send_stream_data(stream, data, end)
        self.transmit()

    def cancel(self, stream, reset=True):
        if reset:
            self._quic.reset_stream(stream, REQUEST_CANCELLED)
        self._quic.stop_stream(stream, REQUEST_CANCELLED)
        self.transmit()

    async def end(self):
        await asyncio.wait_for(self.wait_closed(), PATIENCE)
        return self.terminated.error_code


def goaways(control):
    """The GOAWAY frames on a control stream, behind the stream's type."""
    found, buffer = [], Buffer(data=control[1:])
    while not buffer.eof():
        try:
            kind, length = buffer.pull_uint_var(), buffer.pull_uint_var()
            payload = buffer.pull_bytes(length)
        except ValueError:
            break
        if kind == FrameType.GOAWAY:
            found.append(Buffer(data=payload).pull_uint_var())
    return found


def configuration(**settings):
    quic = QuicConfiguration(alpn_protocols=H3_ALPN, server_name=HOST, **settings)
    quic.verify_mode = ssl.CERT_REQUIRED
    quic.load_verify_locations(CA)
    return quic


def open_connection(quic=None, protocol=Client, **kwargs):
    host, port = ADDRESS.rsplit(":", 1)
    return connect(host, int(port), configuration=quic or configuration(), create_protocol=protocol,
                   **kwargs)


def tell(figures):
    print(json.dumps(figures), flush=True)


def expand(request):
    """Bodies of many bytes are written as their number."""
    if isinstance(request.get("body"), int):
        request["body"] = bytes(number % 251 for number in range(request["body"]))
    elif request.get("body") is not None:
        request["body"] = request["body"].encode()
    return request


async def exchange(requests, together=True):
    """Requests on one connection."""
    async with open_connection() as client:
        answers = []
        if together:
            streams = [client.begin(**expand(request)) for request in requests]
            answers = [await client.answer(stream) for stream in streams]
        else:
            for request in requests:
                answers.append(await client.ask(**expand(request)))
        tell([answer.figures() for answer in answers])


async def pieces(path, chunks):
    """A body that is sent chunk by chunk, each once the last one has come back."""
    async with open_connection() as client:
        stream = client.begin(method="POST", path=path, finish=False)
        answer, sent = client.answers[stream], b""
        for chunk in chunks:
            client.http.send_data(stream, chunk.encode(), end_stream=False)
            # Means nothing, and does not end the body either.
            client.http.send_data(stream, b"", end_stream=False)
            client.transmit()
            sent += chunk.encode()
            end = time.monotonic() + PATIENCE
            while answer.body != sent and time.monotonic() < end:
                await asyncio.sleep(0.005)
        client.http.send_data(stream, b"", end_stream=True)
        client.transmit()
        tell((await client.answer(stream)).figures())


async def reset(path, count, then, reset=True):
    """Requests that are begun and given up once the guest is at work, and one after them."""
    async with open_connection() as client:
        streams = [client.begin(path=path) for _ in range(count)]
        await asyncio.sleep(0.3)
        for stream in streams:
            client.cancel(stream, reset)
        tell((await client.ask(path=then)).figures())


async def abandon_upload(path):
    """An upload that its client resets, and nothing else."""
    async with open_connection() as client:
        stream = client.begin(method="POST", path=path, body=b"some", finish=False)
        await client.ping()
        client._quic.reset_stream(stream, REQUEST_CANCELLED)
        client.transmit()
        tell((await client.answer(stream)).figures())


class Slow(QuicConnection):
    def _write_stream_limits(self, builder, space, stream):
        """A stream's window grows where `take` makes it, and not by itself."""
        if stream.max_stream_data_local_sent != stream.max_stream_data_local:
            buffer = builder.start_frame(
                QuicFrameType.MAX_STREAM_DATA, handler=self._on_max_stream_data_delivery,
                handler_args=(stream,))
            buffer.push_uint_var(stream.stream_id)
            buffer.push_uint_var(stream.max_stream_data_local)
            stream.max_stream_data_local_sent = stream.max_stream_data_local


async def take(path, window, step=0):
    """An answer of which the client takes the first bytes, and `step` more five times a second."""
    aioquic.asyncio.client.QuicConnection = Slow
    async with open_connection(configuration(max_stream_data=window)) as client:
        begun = time.monotonic()
        stream = client.begin(path=path)
        answer = client.answers[stream]
        while not answer.ended.is_set() and time.monotonic() - begun < PATIENCE:
            await asyncio.sleep(0.2)
            if stream in client._quic._streams:
                client._quic._streams[stream].max_stream_data_local += step
                client.transmit()
        tell({**answer.figures(), "seconds": time.monotonic() - begun})


class Thin(Client):
    """Behind a link of 200 kB a second with little memory."""

    waiting = None

    def datagram_received(self, data, addr):
        if self.waiting is None:
            self.waiting = []
            asyncio.ensure_future(self.bring())
        if len(self.waiting) < 64:
            self.waiting.append((data, addr))

    async def bring(self):
        while True:
            for data, addr in self.waiting[:3]:
                super().datagram_received(data, addr)
            del self.waiting[:3]
            await asyncio.sleep(0.02)


async def thin(path):
    """An answer over a slow link, of which the client would take all at once."""
    async with open_connection(configuration(max_stream_data=1 << 22, max_data=1 << 22),
                               protocol=Thin) as client:
        begun = time.monotonic()
        answer = await client.ask(path=path)
        tell({**answer.figures(), "seconds": time.monotonic() - begun})


async def slow_upload(path, every):
    """An upload that announces more than it brings; `every` seconds a byte, or none."""
    async with open_connection() as client:
        begun = time.monotonic()
        stream = client.begin(method="POST", path=path, headers=[["content-length", "100000"]],
                              body=b"x", finish=False)
        answer = client.answers[stream]
        while not answer.ended.is_set():
            try:
                await asyncio.wait_for(answer.ended.wait(), every or PATIENCE)
            except asyncio.TimeoutError:
                if not every:
                    raise
                if answer.ended.is_set():
                    break
                client.http.send_data(stream, b"x", end_stream=False)
                client.transmit()
        tell({**answer.figures(), "seconds": time.monotonic() - begun})


async def slow_head(_=None):
    """Half a head on one stream, and requests meanwhile on others."""
    async with open_connection() as client:
        begun = time.monotonic()
        stream = client._quic.get_next_available_stream_id()
        client.answers[stream] = Answer()
        client.send(stream, encode_uint_var(FrameType.HEADERS) + encode_uint_var(100) + b"\0\0")
        answer, others = client.answers[stream], 0
        while not answer.ended.is_set():
            assert (await client.ask(path="/hello")).status == 200
            others += 1
            await asyncio.sleep(0.05)
        tell({**answer.figures(), "seconds": time.monotonic() - begun, "others": others})


async def idle(_=None):
    """A connection on which nothing is asked after one request."""
    async with open_connection() as client:
        await client.ask(path="/hello")
        begun = time.monotonic()
        code = await client.end()
        tell({"seconds": time.monotonic() - begun, "code": code, "goaways": client.goaways})


async def drain(path, then):
    """A request that runs while the server stops, and one that comes too late."""
    async with open_connection() as client:
        first = client.begin(path=path)
        await client.ping()
        tell("begun")
        end = time.monotonic() + PATIENCE
        while len(client.goaways) < 2 and time.monotonic() < end:
            await asyncio.sleep(0.01)
        late = await client.ask(path=then)
        try:
            async with asyncio.timeout(5):
                async with open_connection():
                    new = "connected"
        except (ConnectionError, TimeoutError) as error:
            new = type(error).__name__
        first = await client.answer(first)
        code = await client.end()
        tell({"first": first.figures(), "late": late.figures(), "goaways": client.goaways,
              "code": code, "new": new})


async def load(paths, expected):
    """Requests one after the other on one connection, and on new ones, until standard input ends."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, stop.set)
    wrong, counts = [], {"kept": 0, "new": 0}

    def judge(answer, what):
        if answer.status != 200 or not any(answer.body.decode().startswith(it) for it in expected):
            wrong.append(f"{what}: {answer.figures()}")

    async def ask(client, kind):
        for path in paths:
            judge(await client.ask(path=path), kind)
            counts[kind] += 1

    async def kept():
        async with open_connection() as client:
            tell("begun")
            while not stop.is_set() and client.terminated is None:
                await ask(client, "kept")
            if client.terminated is not None:
                wrong.append(f"the connection ended: {client.terminated}")

    async def new():
        while not stop.is_set():
            try:
                async with open_connection() as client:
                    await ask(client, "new")
            except ConnectionError as error:
                wrong.append(f"no new connection: {error!r}")

    await asyncio.gather(kept(), new(), new())
    async with open_connection() as client:
        last = client._quic.tls._peer_certificate.fingerprint(hashes.SHA256()).hex()
    tell({**counts, "certificate": last, "wrong": wrong[:10], "wrong_count": len(wrong)})


async def hand_over(path, then):
    """A request that runs until it is answered, and one on a new connection when standard input ends."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, stop.set)
    async with open_connection() as client:
        first = client.begin(path=path)
        await client.answers[first].begun.wait()
        tell("begun")
        first = await client.answer(first)
    await stop.wait()
    async with open_connection() as client:
        new = await client.ask(path=then)
    tell({"first": first.figures(), "new": new.figures()})


async def first_later(path):
    """A connection whose first request is sent when standard input ends."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, stop.set)
    async with open_connection() as client:
        tell("begun")
        await stop.wait()
        answer = await client.ask(path=path)
    tell(answer.figures())


async def carry_on(path, expected):
    """Requests one after the other until standard input ends: on connections that are kept for as long as the
    server has not said that they end, and on a new one each."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, stop.set)
    wrong, counts = [], {"kept": 0, "new": 0, "again": 0, "connections": 0}

    async def serve(kind, requests):
        while not stop.is_set():
            try:
                async with open_connection() as client:
                    counts["connections"] += 1
                    for _ in range(requests):
                        if stop.is_set() or client.goaways:
                            break
                        answer = await client.ask(path=path)
                        if answer.reset == REQUEST_REJECTED:
                            counts["again"] += 1
                        elif answer.status != 200 or answer.body.decode().strip() != expected:
                            wrong.append(f"{kind}: {answer.figures()}, {client.terminated}")
                        else:
                            counts[kind] += 1
            except (ConnectionError, TimeoutError) as error:
                wrong.append(f"{kind}: no connection: {error!r}")

    tell("begun")
    await asyncio.gather(serve("kept", 1_000_000), serve("kept", 1_000_000), serve("new", 1))
    tell({**counts, "wrong": wrong[:10], "wrong_count": len(wrong)})


async def early(_=None):
    """A second connection that sends its request with its first packet."""
    tickets = []
    async with open_connection(session_ticket_handler=tickets.append) as client:
        await client.ask(path="/hello")
        await asyncio.sleep(0.2)
    quic = configuration(session_ticket=tickets[-1])
    async with open_connection(quic, wait_connected=False) as client:
        answer = await client.ask(path="/hello")
        tell({**answer.figures(), "resumed": client.handshake.session_resumed,
              "early": client.handshake.early_data_accepted,
              "offered": tickets[-1].max_early_data_size})


class Silent(Client):
    """Sends its first packet and never another."""

    def datagram_received(self, data, addr):
        pass

    def _handle_timer(self):
        pass


async def half_open(count):
    """Handshakes that are begun and not gone on with, and a whole one behind them."""
    host, port = ADDRESS.rsplit(":", 1)
    loop, sockets = asyncio.get_running_loop(), []
    for _ in range(count):
        transport, protocol = await loop.create_datagram_endpoint(
            lambda: Silent(QuicConnection(configuration=configuration())),
            local_addr=("127.0.0.1", 0))
        protocol.connect((host, int(port)))
        sockets.append(transport)
    await asyncio.sleep(0.3)
    begun = time.monotonic()
    async with open_connection() as client:
        answer = await client.ask(path="/hello")
        retried = client._quic._retry_source_connection_id is not None
        tell({**answer.figures(), "retried": retried, "seconds": time.monotonic() - begun})
    for transport in sockets:
        transport.close()


async def many(count):
    """Connections that are kept: which are refused."""
    async with asyncio.timeout(PATIENCE):
        refused, held = 0, []
        for _ in range(count):
            connection = open_connection()
            try:
                client = await connection.__aenter__()
                assert (await client.ask(path="/hello")).status == 200
                held.append(connection)
            except ConnectionError:
                refused += 1
        for connection in held[:1]:
            await connection.__aexit__(None, None, None)
        await asyncio.sleep(0.3)
        async with open_connection() as client:
            again = (await client.ask(path="/hello")).status
        for connection in held[1:]:
            await connection.__aexit__(None, None, None)
        tell({"refused": refused, "held": len(held), "again": again})


async def refused(_=None):
    """Whether a connection is refused, and not only left without an answer."""
    try:
        async with asyncio.timeout(5):
            async with open_connection():
                tell({"refused": False})
    except ConnectionError:
        tell({"refused": True})


def frame_kinds():
    grease = encode_frame(0x21, b"")
    return {
        "unknown": grease,
        "push-ids": encode_frame(FrameType.MAX_PUSH_ID, b"\x05"),
        "priorities": encode_frame(0xF0700, b"\x00u=1"),
        "empty-data": encode_frame(FrameType.DATA, b""),
        "tiny-data": encode_frame(FrameType.DATA, b"x"),
    }


async def flood(kind, most):
    """Sends one kind of frame until the connection ends: how many were sent."""
    async with open_connection() as client:
        sent = 0
        if kind == "resets":
            while client.terminated is None and sent < most:
                stream = client.begin(path="/sleep?ms=10000")
                client.cancel(stream)
                sent += 1
                if sent % 20 == 0:
                    await asyncio.sleep(0.01)
        elif kind == "streams":
            while client.terminated is None and sent < most:
                stream = client._quic.get_next_available_stream_id(is_unidirectional=True)
                client.send(stream, encode_uint_var(0x21), end=True)
                sent += 1
                if sent % 20 == 0:
                    await asyncio.sleep(0.01)
        else:
            frames = frame_kinds()[kind]
            if kind.endswith("data"):
                stream = client.begin(method="POST", path="/discard", finish=False)
            else:
                stream = client.http._local_control_stream_id
            while client.terminated is None and sent < most:
                client.send(stream, frames * 100)
                sent += 100
                await asyncio.sleep(0.01)
        ended = client.terminated is not None
        tell({"sent": sent, "ended": ended,
              "code": client.terminated.error_code if ended else None})


async def broken(kind):
    """What a server must withstand on one stream: how the stream or the connection ends."""
    async with open_connection() as client:
        head = [(":method", "POST"), (":scheme", "https"), (":authority", HOST), (":path", "/echo")]
        head = [(name.encode(), value.encode()) for name, value in head]
        stream = client._quic.get_next_available_stream_id()
        answer = client.answers[stream] = Answer()
        headers = encode_frame(FrameType.HEADERS, client.http._encode_headers(stream, head))
        data = encode_uint_var(FrameType.DATA) + encode_uint_var(1000)
        if kind == "data-cut":
            client.send(stream, headers + data + b"x" * 10)
            await asyncio.sleep(0.2)
            client.send(stream, b"", end=True)
        elif kind == "head-long":
            client.send(stream, encode_uint_var(FrameType.HEADERS) + encode_uint_var(1 << 30))
        elif kind == "unknown-long":
            client.send(stream, encode_uint_var(0x21) + encode_uint_var(1 << 40) + bytes(1 << 20))
            await asyncio.sleep(1)
            client.cancel(stream)
        elif kind == "settings-twice":
            client.send(client.http._local_control_stream_id, encode_frame(FrameType.SETTINGS, b""))
        elif kind == "reserved":
            client.send(stream, headers + encode_frame(0x6, b"12345678"))
        elif kind == "data-first":
            client.send(stream, data)
        elif kind == "nothing":
            client.send(stream, b"", end=True)
        elif kind == "two-lengths":
            fields = [(b"content-length", b"4"), (b"content-length", b"5")]
            block = client.http._encode_headers(stream, head + fields)
            client.send(stream, encode_frame(FrameType.HEADERS, block))
        elif kind == "connection-header":
            block = client.http._encode_headers(stream, head + [(b"connection", b"close")])
            client.send(stream, encode_frame(FrameType.HEADERS, block))
        ended = asyncio.ensure_future(answer.ended.wait())
        closed = asyncio.ensure_future(client.wait_closed())
        await asyncio.wait([ended, closed], timeout=5, return_when=asyncio.FIRST_COMPLETED)
        # Its streams may end before the connection does.
        await asyncio.wait([closed], timeout=0.5)
        code = client.terminated.error_code if client.terminated else None
        still = None if client.terminated else (await client.ask(path="/hello")).status
        tell({**answer.figures(), "code": code, "still": still})


def main():
    global ADDRESS, HOST, CA
    ADDRESS, HOST, CA, name = sys.argv[1:5]
    given = json.loads(sys.argv[5]) if len(sys.argv) > 5 else {}
    asyncio.run(globals()[name](**given))


if __name__ == "__main__":
    main()
