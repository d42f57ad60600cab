"""What is wrong with an object: upstream's rules, field paths, order and words.

Every function takes JSON that the schema has accepted and default values filled in, and returns FieldErrors; it never
raises.  Metadata is validated by the generic part, but for what a kind demands of it.

Source: pkg/apis/core/validation/validation.go, pkg/apis/*/validation/validation.go.
"""
