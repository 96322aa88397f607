;; A WASI 0.2 proxy that needs interfaces no host has, and calls them.
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (import "acme:thing/store@1.0.0" (instance $store
    (export "touch" (func (result u32)))))
  (import "wasi:keyvalue/store@0.2.0-draft" (instance $keyvalue
    (export "touch" (func (result u32)))))
  (alias export $types "incoming-request" (type $incoming-request))
  (alias export $types "response-outparam" (type $response-outparam))

  (core func $touch-store (canon lower (func $store "touch")))
  (core func $touch-keyvalue (canon lower (func $keyvalue "touch")))
  (core module $code
    (import "store" "touch" (func $touch-store (result i32)))
    (import "keyvalue" "touch" (func $touch-keyvalue (result i32)))
    (func (export "handle") (param i32 i32)
      (drop (call $touch-store))
      (drop (call $touch-keyvalue))))
  (core instance $code (instantiate $code
    (with "store" (instance (export "touch" (func $touch-store))))
    (with "keyvalue" (instance (export "touch" (func $touch-keyvalue))))))

  (func $handle (param "request" (own $incoming-request)) (param "response-out" (own $response-outparam))
    (canon lift (core func $code "handle")))
  (component $handler-shim
    (import "incoming-request" (type $incoming-request (sub resource)))
    (import "response-outparam" (type $response-outparam (sub resource)))
    (import "handle" (func $handle
      (param "request" (own $incoming-request)) (param "response-out" (own $response-outparam))))
    (export $in "incoming-request" (type $incoming-request))
    (export $out "response-outparam" (type $response-outparam))
    (export "handle" (func $handle)
      (func (param "request" (own $in)) (param "response-out" (own $out)))))
  (instance $handler (instantiate $handler-shim
    (with "incoming-request" (type $incoming-request))
    (with "response-outparam" (type $response-outparam))
    (with "handle" (func $handle))))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
