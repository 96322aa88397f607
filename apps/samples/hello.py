"""`hello world` in Python, as a WASI 0.2 proxy.

To build it, with Python 3.10 or later:

    pip install componentize-py==0.25.1
    componentize-py --wit-path wit --world sample componentize hello --output hello-py.wasm

tests/guests/build-samples.sh does the same.
"""

from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        headers = Fields.from_list([("content-type", b"text/plain")])
        response = OutgoingResponse(headers)
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))

        # The stream is the body's child, and must be gone when the body finishes.
        with body.write() as stream:
            stream.blocking_write_and_flush(b"hello world from Python\n")
        OutgoingBody.finish(body, None)
