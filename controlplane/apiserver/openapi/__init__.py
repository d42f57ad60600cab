"""The OpenAPI documents: what the API offers, in version 3 a document for each group and version, in version 2 as one.

v3.document(group, version, resources, definitions.Definitions())   # /openapi/v3/apis/GROUP/VERSION
v2.document(resources, definitions.Definitions())                   # /openapi/v2, JSON
gnostic.encode(document)                                            # /openapi/v2, protobuf (older kubectl)
"""
