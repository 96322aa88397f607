// `hello world` in JavaScript, as a WASI 0.2 proxy.
//
// To build it, with Node 20 or later:
//
//   npm install @bytecodealliance/componentize-js@0.23.0
//   npx componentize-js hello.js --wit wit --world-name sample -o hello-js.wasm
//
// tests/guests/build-samples.sh does the same.

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const { pathname } = new URL(request.url);
  if (pathname === "/echo") {
    return new Response(await request.text());
  }
  return new Response("hello world from JavaScript\n", {
    headers: { "content-type": "text/plain" },
  });
}
