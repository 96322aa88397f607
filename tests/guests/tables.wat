;; A WASI 0.2 proxy that fills twelve tables when it starts, and then computes for a while. It never answers.
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $incoming-request))
  (alias export $types "response-outparam" (type $response-outparam))

  (core module $code
    (table $t0 0 funcref) (table $t1 0 funcref) (table $t2 0 funcref) (table $t3 0 funcref)
    (table $t4 0 funcref) (table $t5 0 funcref) (table $t6 0 funcref) (table $t7 0 funcref)
    (table $t8 0 funcref) (table $t9 0 funcref) (table $ta 0 funcref) (table $tb 0 funcref)
    (elem declare func $start)
    (func $start
      (drop (table.grow $t0 (ref.func $start) (i32.const 20000)))
      (drop (table.grow $t1 (ref.func $start) (i32.const 20000)))
      (drop (table.grow $t2 (ref.func $start) (i32.const 20000)))
      (drop (table.grow $t3 (ref.func $start) (i32.const 20000)))
      (drop (table.grow $t4 (ref.func $start) (i32.const 20000)))
      (drop (table.grow $t5 (ref.func $start) (i32.const 20000)))
      (drop (table.grow $t6 (ref.func $start) (i32.const 20000)))
      (drop (table.grow $t7 (ref.func $start) (i32.const 20000)))
      (drop (table.grow $t8 (ref.func $start) (i32.const 20000)))
      (drop (table.grow $t9 (ref.func $start) (i32.const 20000)))
      (drop (table.grow $ta (ref.func $start) (i32.const 20000)))
      (drop (table.grow $tb (ref.func $start) (i32.const 20000))))
    (start $start)
    (func (export "handle") (param i32 i32)
      (local $left i32)
      (local.set $left (i32.const 20000000))
      (loop $on
        (br_if $on (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))
  (core instance $code (instantiate $code))
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
