"""The protocol's datatypes, with the values at their ends. Knows no client, because each brings arrays of its own."""

from __future__ import annotations

# Of two rows and three columns each. The second is the field of the typed contents, which two datatypes have none of.
CASES: dict[str, tuple[list, str | None]] = {
    "BOOL": ([[True, False, True], [False, False, True]], "bool_contents"),
    "UINT8": ([[0, 1, 127], [128, 254, 255]], "uint_contents"),
    "UINT16": ([[0, 1, 255], [256, 32768, 65535]], "uint_contents"),
    "UINT32": ([[0, 1, 65536], [2**31 - 1, 2**31, 2**32 - 1]], "uint_contents"),
    "UINT64": ([[0, 1, 2**32], [2**53 + 1, 2**63, 2**64 - 1]], "uint64_contents"),
    "INT8": ([[0, 1, -1], [127, -127, -128]], "int_contents"),
    "INT16": ([[0, 1, -1], [32767, -32767, -32768]], "int_contents"),
    "INT32": ([[0, 1, -1], [2**31 - 1, 1 - 2**31, -(2**31)]], "int_contents"),
    "INT64": ([[0, 1, -1], [2**63 - 1, 2**53 + 1, -(2**63)]], "int64_contents"),
    "FP16": ([[0.0, -0.0, 65504.0], [float("inf"), float("nan"), 2.0**-24]], None),
    "BF16": ([[0.0, -0.0, 1.5], [float("inf"), float("nan"), 2.0**-126]], None),
    "FP32": ([[0.0, -0.0, 1.1], [float("-inf"), float("nan"), 2.0**-149]], "fp32_contents"),
    "FP64": ([[0.0, -0.0, 1.1], [float("-inf"), float("nan"), 2.0**-1074]], "fp64_contents"),
    "BYTES": ([[b"", b"a b", "naïve".encode()], [b"\x01\x7f", "処方".encode(), b"x" * 300]], "bytes_contents"),
}
