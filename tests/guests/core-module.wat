;; A core module, which is not a component.
(module)
