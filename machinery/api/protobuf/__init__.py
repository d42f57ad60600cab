"""Kubernetes' protobuf encoding: `application/vnd.kubernetes.protobuf`.

    data = envelope.encode(obj)                 # k8s\\x00 + runtime.Unknown around the message
    obj = envelope.decode(data)                 # JSON form, with apiVersion and kind

`fields.txt` is the table of field numbers of every message: facts of the published API, one line a message.  `codec`
compiles a line into two closures on first use.
"""
