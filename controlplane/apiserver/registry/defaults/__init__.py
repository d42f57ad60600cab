"""Defaults of each kind: functions that fill in, in place, what a client left out.

They run on objects as `machinery.api.schema` decodes them: nothing is null or empty that upstream would not keep.

Source: pkg/apis/*/v1/defaults.go.
"""
