;; A component for a release candidate of WASI 0.3, which hosts of 0.3.0 refuse.
(component
  (core module $code
    (func (export "handle")))
  (core instance $code (instantiate $code))
  (func $handle (canon lift (core func $code "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/handler@0.3.0-rc-2026-01-06" (instance $handler)))
