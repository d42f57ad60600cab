"""What expressions yield, and what is said of those that can't."""

from typing import Any

import pytest

from machinery.cel.declarations import scope_of
from machinery.cel.environment import compile_program
from machinery.cel.errors import BudgetExceeded, CompileError, EvaluationError
from machinery.cel.values import NONE, Duration, Optional, Timestamp, UInt

SCOPE = scope_of("object", "empty")
OBJECT = {"spec": {"n": 3, "f": 1.5, "containers": [{"name": "a"}, {"name": "b", "image": "x"}]}, "nothing": None}


def value(text: str) -> Any:
    return compile_program(text, SCOPE).evaluate({"object": OBJECT, "empty": []})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # arithmetic, in 64 bits and by type
        ("1 + 2 * 3 - 4", 3),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("7u / 2u", UInt(3)),
        ("1.0 / 0.0", float("inf")),
        ("0x1F + 1", 32),
        ("object.spec.n + 1 == 4 && object.spec.f < 2", True),
        ("dyn(1) == 1.0 && 1u < 2 && 2.5 > 2", True),
        ("9223372036854775807 > 0", True),
        ("-9223372036854775808 < 0", True),
        # strings and bytes
        (r"'a\tb\x41\u00e9' + r'\n'", "a\tbA\u00e9\\n"),
        ("b'ab' == bytes('ab')", True),
        ('"""two\nlines"""', "two\nlines"),
        ("'abc'.size() + size([1, 2]) + size({'a': 1})", 6),
        ("'Hello'.matches('^H.*o$') && !'Hello'.contains('x')", True),
        ("'a,b,c'.split(',')", ["a", "b", "c"]),
        ("'a,b,c'.split(',', 2)", ["a", "b,c"]),
        ("['a', 'b'].join('-')", "a-b"),
        ("'tacocat'.substring(4) + 'tacocat'.substring(0, 4)", "cattaco"),
        ("' x '.trim() + 'Ab'.lowerAscii() + 'Ab'.upperAscii()", "xabAB"),
        ("'hello'.indexOf('l') * 10 + 'hello'.lastIndexOf('l')", 23),
        ("'aXbXc'.replace('X', '-', 1)", "a-bXc"),
        ("'a1b22'.find('[0-9]+') + 'a1b22'.findAll('[0-9]+')[1]", "122"),
        ("'%s is %d, %.2f, %x'.format([dyn('a'), dyn(1), dyn(2.5), dyn(255)])", "a is 1, 2.50, ff"),
        ("url('https://a/x y/(z)?').getEscapedPath() + url('/a(b)').getEscapedPath()", "/x%20y/%28z%29/a(b)"),
        ("strings.quote('a\"b')", '"a\\"b"'),
        # collections
        ("[1, 2] + [3] == [1, 2, 3] && 2 in [1, 2] && 'a' in {'a': 1}", True),
        ("{'a': [1]}['a'][0]", 1),
        ("[3, 1, 2].max() + [3, 1, 2].min() + [3, 1, 2].sum()", 10),
        ("[1, 2, 3].isSorted() && ![2, 1].isSorted()", True),
        ("[1, 2, 1].indexOf(1) + [1, 2, 1].lastIndexOf(1)", 2),
        ("sets.contains([1, 2], [1]) && sets.equivalent([1, 1], [1]) && !sets.intersects([1], [2])", True),
        ("[[1], [2, 3]].flatten()", [1, 2, 3]),
        ("[3, 1, 2].sort() + [1, 1].distinct() + [1, 2, 3].slice(1, 2)", [1, 2, 3, 1, 2]),
        ("lists.range(3)", [0, 1, 2]),
        ("[3, 1, 2].sortBy(e, -e)", [3, 2, 1]),
        # macros
        ("object.spec.containers.all(c, c.name != '')", True),
        ("object.spec.containers.exists(c, has(c.image))", True),
        ("object.spec.containers.exists_one(c, has(c.image))", True),
        ("object.spec.containers.filter(c, has(c.image)).map(c, c.name)", ["b"]),
        ("[1, 2, 3].map(x, x > 1, x * x)", [4, 9]),
        ("empty.all(x, false)", True),
        ("[1, 2].exists(x, x / 0 == 1 || x == 2)", True),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v * 2)", {"a": 2, "b": 4}),
        ("[5, 6].transformList(i, v, i + v)", [5, 7]),
        ("{'a': 1}.all(k, v, k == 'a' && v == 1)", True),
        ("cel.bind(x, object.spec.n, x * x)", 9),
        ("[1].map(x, [2].map(x, x))", [[2]]),
        # errors that don't matter
        ("false && object.none", False),
        ("object.none || true", True),
        ("has(object.spec.none)", False),
        ("has(object.nothing)", True),
        # optionals
        ("object.?spec.?none.orValue(7)", 7),
        ("object.?spec.n", Optional(3)),
        ("optional.none()", NONE),
        ("[?optional.of(1), ?optional.none()]", [1]),
        ("{?'a': object.?none}", {}),
        ("object.spec.containers[?5].hasValue()", False),
        ("optional.of(2).optMap(x, x * 2).value()", 4),
        # times
        ("duration('1h30m').getMinutes()", 90),
        ("timestamp('2024-02-29T12:00:00Z').getDayOfWeek()", 4),
        ("timestamp('2024-01-01T00:00:00Z') + duration('24h')", Timestamp(1704153600 * 10**9)),
        ("timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z')", Duration(86400 * 10**9)),
        ("timestamp('2024-01-01T00:00:00Z').getHours('+02:00')", 2),
        ("string(duration('90.5s')) + string(timestamp('2024-01-01T00:00:00.5Z'))", "90.5s2024-01-01T00:00:00.5Z"),
        # types and conversions
        ("type(1) == int && type('') == string && type(1.5) != int", True),
        ("int('12') + int(3.9) + int(timestamp('1970-01-01T00:00:07Z'))", 22),
        ("string(1.0) + string(true) + string(1e100)", "1true1e+100"),
        ("double('1.5') + 1.0", 2.5),
        # Kubernetes' own
        ("quantity('1Gi').isGreaterThan(quantity('1G')) && isQuantity('50m') && !isQuantity('x')", True),
        ("quantity('1.5').add(quantity('500m')).asInteger()", 2),
        ("ip('10.0.0.1').family() + ip('::1').family()", 10),
        ("ip('127.0.0.1').isLoopback() && !isIP('300.1.1.1') && ip.isCanonical('::1')", True),
        ("cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR(cidr('10.1.0.0/16'))", True),
        ("string(cidr('10.1.2.3/8').masked())", "10.0.0.0/8"),
        ("url('https://a.b:80/c?d=1').getHost() + url('https://a.b:80/c?d=1').getPort()", "a.b:8080"),
        ("url('/a?b=1&b=2').getQuery()['b']", ["1", "2"]),
        ("semver('1.2.3').isLessThan(semver('1.10.0')) && semver('v1', true).major() == 1", True),
        ("format.dns1123Label().validate('ok').hasValue()", False),
        ("format.dns1123SubdomainPrefix().validate('a.b.-').hasValue()", False),
        ("sign(quantity('-1'))", -1),
        ("[1, 2].first().value() + [1, 2].last().value() + optional.unwrap([optional.of(3), optional.none()])[0]", 6),
        ("dyn([1.5, 2.0]).sum()", 3.5),
        ("isSemver('01.1', true) && !isSemver('1.1-rc', true) && !isSemver('1.2.3-')", True),
        ("string(timestamp('2011-08-18T19:03:37.01+01:00') + duration('1h'))", "2011-08-18T20:03:37.01+01:00"),
        ("timestamp('2011-08-18T19:00:00+01:00').getHours()", 18),
        ("!format.named('none').hasValue() && format.named('uuid').hasValue()", True),
    ],
)
def test_values(text: str, expected: Any) -> None:
    found = value(text)
    assert found == expected
    assert isinstance(found, bool) == isinstance(expected, bool)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("object.none", "no such key: none"),
        ("object.spec.containers[9]", "index out of bounds: 9"),
        ("1 / 0", "division by zero"),
        ("1 % 0", "modulus by zero"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("1u - 2u", "unsigned integer overflow"),
        ("object.spec.n + 'a'", "no such overload"),
        ("object.spec.n.startsWith('a')", "no such overload"),
        ("object.nothing.x", "no such overload"),
        ("int(null)", "no such overload"),
        ("int('x')", 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("[1].map(x, x / 0)", "division by zero"),
        ("optional.none().value()", "optional.none() dereference"),
        ("quantity('x')", "quantities must match the regular expression"),
        ("quantity('10Mm')", "unable to parse quantity's suffix"),
        ("semver('v1.0')", "No Major.Minor.Patch elements found"),
        ("semver('1.02.3')", 'Minor number must not contain leading zeroes "02"'),
        ("semver('1.2.x')", 'Invalid character(s) found in patch number "x"'),
        ("semver('1.2.3-01')", 'Numeric PreRelease version must not contain leading zeroes "01"'),
        ("semver('1.1-rc', true)", "short version cannot contain PreRelease/Build meta data"),
        ("ip('192.168.0.1.0')", 'ParseAddr("192.168.0.1.0"): IPv4 address too long'),
        ("ip('1.2.3')", 'ParseAddr("1.2.3"): IPv4 address too short'),
        ("ip('1.2.03.4')", "IPv4 field has octet with leading zero"),
        ("ip('2001:db8:::68')", 'each colon-separated field must have at least one digit (at ":68")'),
        ("ip('1::2::3')", 'multiple :: in address (at ":3")'),
        ("ip('1:2:3')", "address string too short"),
        ("ip('12345::')", 'each group must have 4 or less digits (at "12345::")'),
        ("ip('fe80::1%eth0')", 'IP address "fe80::1%eth0" with zone value is not allowed'),
        ("cidr('1.2.3.0/33')", 'netip.ParsePrefix("1.2.3.0/33"): prefix length out of range'),
        (
            "cidr('1.2.3.0/')",
            'string: network address parse error during conversion from string: netip.ParsePrefix("1.2',
        ),
        ("'abc'.substring(5)", "index out of range: 5"),
    ],
)
def test_values_that_can_not_be_had(text: str, message: str) -> None:
    with pytest.raises(EvaluationError) as told:
        value(text)
    assert message in str(told.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nobody", "ERROR: <input>:1:1: undeclared reference to 'nobody' (in container '')\n | nobody\n | ^"),
        (
            "1 + 'a'",
            "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + 'a'\n | ..^",
        ),
        (
            "size(1)",
            "ERROR: <input>:1:5: found no matching overload for 'size' applied to '(int)'\n | size(1)\n | ....^",
        ),
        (
            "true &&\n 'a'.foo()",
            "ERROR: <input>:2:9: undeclared reference to 'foo' (in container '')\n |  'a'.foo()\n | ........^",
        ),
        ("[1, 'a']", "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^"),
        (
            "1.all(x, true)",
            "ERROR: <input>:1:1: expression of type 'int' cannot be range of a comprehension (must be list, map, or "
            "dynamic)\n | 1.all(x, true)\n | ^",
        ),
        ("'a'.matches('(')", "ERROR: <input>:1:13: invalid matches argument\n | 'a'.matches('(')\n | ............^"),
        ("duration('x')", "ERROR: <input>:1:10: invalid duration argument\n | duration('x')\n | .........^"),
        ("'x'.y", "ERROR: <input>:1:4: type 'string' does not support field selection\n | 'x'.y\n | ...^"),
        ("has(1)", "ERROR: <input>:1:4: invalid argument to has() macro\n | has(1)\n | ...^"),
        ("1 +", "ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting"),
        ("a b", "ERROR: <input>:1:3: Syntax error: mismatched input 'b' expecting <EOF>\n | a b\n | ..^"),
        ("a.", "ERROR: <input>:1:3: Syntax error: no viable alternative at input '.'\n | a.\n | ..^"),
        ("for", "ERROR: <input>:1:1: reserved identifier: for\n | for\n | ^"),
        ("'a", "ERROR: <input>:1:1: Syntax error: token recognition error at: '''\n | 'a\n | ^"),
        ("9223372036854775808", "ERROR: <input>:1:1: invalid int literal\n | 9223372036854775808\n | ^"),
        ("(" * 500 + "1" + ")" * 500, "expression recursion limit exceeded: 250"),
        ("1" * 100_001, "expression code point size exceeds limit: size: 100001, limit 100000"),
        ("'\\ud800'", "invalid unicode code point"),
    ],
)
def test_expressions_that_do_not_compile(text: str, message: str) -> None:
    with pytest.raises(CompileError) as told:
        compile_program(text, SCOPE)
    assert str(told.value).startswith(message) or message in str(told.value)


def test_no_expression_runs_for_long() -> None:
    many = {"object": list(range(1000)), "empty": []}
    program = compile_program("object.all(a, object.all(b, object.all(c, a + b + c >= 0)))", SCOPE)
    with pytest.raises(BudgetExceeded, match="actual cost limit exceeded"):
        program.evaluate(many)
    grows = compile_program("object.map(a, object.map(b, object)).size() > 0 && 'x'.replace('', 'y').size() > 0", SCOPE)
    with pytest.raises(BudgetExceeded):
        grows.evaluate(many)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("1 + 2", 1, 1),
        ("object.spec.n == 1", 2, 2),
        ("'abc'.contains('b')", 1, 1),
        ("[1, 2, 3].all(x, x > 0)", 20, 26),
        ("'name ' + string(object.spec.n)", 2, 3689348814741910529),
        ("has(object.a) || has(object.b)", 1, 2),
        ("cel.bind(x, 3, x * x)", 13, 13),
        ("sign(quantity('1Gi'))", 2, 2),
        ("authorized", 1, 1),
    ],
)
def test_costs_are_estimated_before_anything_runs(text: str, low: int, high: int) -> None:
    found = compile_program(text, scope_of("object", "authorized")).cost()
    assert found.low == low
    assert found.high == pytest.approx(high, rel=1e-9)
