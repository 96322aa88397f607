;; A WASI 0.2 proxy whose start function traps every other time, by chance. It never answers.
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $incoming-request))
  (alias export $types "response-outparam" (type $response-outparam))

  (import "wasi:random/random@0.2.0" (instance $random
    (export "get-random-u64" (func (result u64)))))
  (core func $random (canon lower (func $random "get-random-u64")))

  (core module $code
    (import "wasi" "random" (func $random (result i64)))
    (func $start
      (if (i64.eqz (i64.and (call $random) (i64.const 1))) (then unreachable)))
    (start $start)
    (func (export "handle") (param i32 i32)))
  (core instance $code (instantiate $code
    (with "wasi" (instance (export "random" (func $random))))))

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
