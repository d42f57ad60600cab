"""Structural schemas: what a CustomResourceDefinition says its objects look like.

`custom.compile_schema` turns an openAPIV3Schema into the same `KindSchema` that built-in kinds have, with defaulting
and validation beside it; `definition.errors` says what is wrong with such a schema.
"""
