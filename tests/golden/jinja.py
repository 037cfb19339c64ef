"""What Jinja2, set up as in transformers, makes of many small templates: writes jinja.json.

Needs jinja2. Each case has a template, its variables (the same for all of a group) and the text, or null for an error.
"""

import copy
import itertools
import json
from pathlib import Path

from chat_templates import environment

ENV = environment()
VARIABLES = {
    "t": "Hello <b>World</b>, it's  \"fine\"\n second-line éß ǆ Σας ",
    "u": "the quick brown fox jumps over the lazy dog",
    "e": "",
    "n": 7,
    "f": 2.5,
    "big": 1e22,
    "yes": True,
    "no": False,
    "nil": None,
    "l": [3, 1, 2],
    "w": ["b", "A", "c", "a"],
    "d": {"b": 1, "a": [1, {"k": "v'\""}], "C": None},
    "users": [
        {"name": "Ann", "age": 30, "role": {"id": "x"}},
        {"name": "bob", "age": 25, "role": {"id": "y"}},
        {"name": "Cyd", "age": 30, "role": {"id": "x"}},
    ],
    "deep": {"a": {"b": {"c": ["x" * 30, "y" * 30, {"k": "word " * 30}]}}},
    "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}],
}

EXPRESSIONS = """
1 + 2 * 3 - 4 / 2|7 // 2|-7 // 2|7 % 3|-7 % 3|7 % -3|7.5 // 2|-7.5 % 2|2 ** 10|2 ** -1|2 ** 3 ** 2|-2 ** 2|10 / 4|1e3|1_000
0x1F + 0b11 + 0o17|1.5e-7|1e16|123456789.123456789|0.1 + 0.2|100000000000000000000.0|1e15|-0.0|5 // 0.3|true + 1|3 * 'ab'|'ab' * 0|[1] * 3|[1] + [2]|(1, 2) + (3,)
'a' ~ 1 ~ none ~ true ~ 1.0|'a' + 'b' ~ 'c' * 2|1 ~ 2 + 3|'%s and %d' % ('x', 3)|'%5.2f|' % f|'%-8s|' % 'ab'|'%08.3f' % 3.14159|'%+d' % 5|'%x %X %o' % (255, 255, 8)|'%e' % 12345.678|'%g' % 0.00001234
'%g' % 1234567|'%r' % 'it'|'%%' % ()|'%(a)s-%(b)s' % {'a': 1, 'b': 2}|'%s' % none|'%s' % [[1, 'a']]|'%5s|%-5s|' % ('a', 'b')|'%.2s' % 'abcdef'|'%c' % 65|'%c' % 'z'|'%i' % 3.9|'%s' % (1, 2)|'%d' % 'x'|'%#x' % 255|'% d' % 5|'%05d' % -42|'%*d' % (6, 42)
0 < n <= 7|1 < 2 < 3 < 2|n == 7 == 7.0|1 < 2 > 0|'a' < 'b' <= 'b'|[1, 2] < [1, 3]|(1, 2) == (1, 2)|[1] == (1,)|1 == true|'1' == 1|none == none|none < 1|'a' < 1|1 in l|9 not in l|'ell' in t|'b' in d|1 in 'abc'|1 != 2 != 3
not true|not not n|n and f|e or 'default'|nil or e|no and missing|missing is defined|missing|missing or 'x'|missing ~ 'x'|missing.attr|missing['a']|missing + 1|missing == missing|'a' if no|'a' if yes else 'b'|('a' if no else 'b' if no else 'c')
n is odd|n is even|n is divisibleby 7|n is divisibleby(3)|nil is none|t is string|n is number|yes is number|f is float|n is integer|yes is integer|yes is boolean|yes is true|no is false|l is sequence|l is iterable|d is mapping|t is sequence|t is iterable|n is iterable|range is callable|t is callable|l is callable
t is lower|'abc' is lower|'ABC' is upper|n is sameas 7|l is sameas l|n is eq 7|n is ge(7)|n is gt 6|n is lt 6|n is le 7|n is ne 7|n is in l|1 is in l|n is not none|n is not in l|'upper' is filter|'nope' is filter|'odd' is test|n is greaterthan 5|n is lessthan 5|n is equalto 7|missing is undefined|t is escaped|n == 7 is true|missing is callable
l[0]|l[-1]|l[5]|l[1:]|l[::-1]|l[:2]|l[-2:]|t[0]|t[-1]|t[99]|t[1:5]|t[::-1]|t[::2]|t[-5:-1]|t[5:1]|t[:]|d['b']|d.b|d['x']|d.x|d.a[1].k|d['a'][0]|l.0|l['x']|(1, 2)[0]|t[1:2:3]|l[0:10:2]|l[10:]|l[-10:2]|e[0]|(1, 2, 3)[::-1]|t['upper']()|d['items']|d.items() | list
d.items()|d.keys()|d.values()|d|l|(1,)|(1, 2)|()|[]|{}|{'a': 1, 2: 'b', none: true}|{1: 'a', true: 'b'}|[none, true, 1.0, 'a', "it's", 'q"', 'both\\'"']|'tab\\t nl\\n bs\\\\ é \\u200b \\x00'|['tab\\t nl\\n bs\\\\ é \\u200b \\x00 \\U0001f980 \\u0301']|range(3)|range(1, 10, 3)|range(5, 0, -2) | list|range(3)[1]|range(3) | length|range(0)|[1, 2, 3,]
t.upper()|t.lower()|t.title()|t.capitalize()|t.swapcase()|t.casefold()|u.split()|u.split(' ', 2)|u.rsplit(' ', 2)|u.split('o')|u.rsplit('o', 1)|u.partition(' ')|u.rpartition(' ')|u.partition('zz')|u.rpartition('zz')|'  a b  c '.split(none, 1)|'  a b  c '.rsplit(none, 1)|'  a b  '.split()|'a,b,,c'.split(',')|''.split()|''.split(',')|'a'.split('')
u.find('quick')|u.find('zz')|u.rfind('o')|u.index('brown')|u.index('zz')|u.rindex('o')|u.count('o')|u.find('o', 15)|u.find('o', 0, 3)|t.find('é')|u.startswith('the')|u.startswith(('a', 'the'))|u.endswith('dog')|u.endswith('x')|u.startswith('quick', 4)|u.replace('o', '0')|u.replace('o', '0', 1)|'aaa'.replace('', '-')|''.replace('', 'x')|u.removeprefix('the ')|u.removesuffix('dog')|u.removeprefix('x')
'abc'.center(10) ~ '|'|'abc'.center(9, '*')|'ab'.center(9, '*')|'ab'.center(5)|'abc'.ljust(6) ~ '|'|'abc'.rjust(6, '.')|'42'.zfill(5)|'-42'.zfill(5)|'+4'.zfill(1)|'abc'.center(1)|'a\\tb\\tc'.expandtabs()|'a\\tb'.expandtabs(4)|'ab\\n\\tc'.expandtabs(2)|t.strip()|'xxaxx'.strip('x')|'xyaxy'.lstrip('xy')|'xyaxy'.rstrip('yx')|' \\u00a0a\\x1f '.strip()|'a\\nb\\r\\nc\\x0bd\\u2028e'.splitlines()|'a\\nb\\n'.splitlines(true)|''.splitlines()
'abc'.isalpha()|'ab1'.isalnum()|'12'.isdigit()|'²'.isdigit()|'²'.isdecimal()|'½'.isnumeric()|'½'.isdigit()|'१'.isdecimal()|' '.isspace()|''.isspace()|'ABC'.isupper()|'A1'.isupper()|'1'.isupper()|'abc'.islower()|'Ab Cd'.istitle()|'AB'.istitle()|'abc'.isascii()|'é'.isascii()|'a b'.isidentifier()|'a_1'.isidentifier()|'1a'.isidentifier()|'a\\n'.isprintable()|'abc'.isprintable()
','.join(['a', 'b'])|', '.join(w)|'-'.join('abc')|','.join([1])|''.join([])|'{} {}'.format(1, 'a')|'{0}{1}{0}'.format('a', 'b')|'{a}-{b}'.format(a=1, b=2)|'{:>5}|{:<5}|{:^5}|'.format('a', 'b', 'c')|'{:*^9}'.format('mid')|'{:05d}'.format(42)|'{:+.2f}'.format(3.14159)|'{:,}'.format(1234567)|'{:_}'.format(1234567)|'{:x} {:#x} {:b} {:o} {:X}'.format(255, 255, 5, 8, 255)|'{:e}'.format(12345.678)|'{:g}'.format(0.0001)|'{:%}'.format(0.25)|'{:.1%}'.format(0.256)
'{!r}'.format('a')|'{!s:>4}'.format('a')|'{{}}'.format()|'{0[a]} {0[b]}'.format({'a': 1, 'b': 2})|'{0.x}'.format({'x': 1})|'{0[1]}'.format([1, 2])|'{:{w}}|'.format('a', w=5)|'{:{}.{}f}'.format(3.14159, 8, 2)|'{:>{}}'.format('x', 3)|'{}'.format()|'{} {0}'.format(1)|'{x}'.format(y=1)|'{'.format()|'}'.format()|'{:d}'.format('a')|'{:s}'.format(1)|'{:5}|'.format(1)|'{:5}|'.format(true)|'{}'.format(true)|'{:.3}'.format('abcdef')|'{:.3}'.format(3.14159)|'{:10.4}|'.format(2.0)|'{:08.2f}'.format(-3.14159)|'{:=+8d}'.format(42)|'{:c}'.format(65)|'{:,.2f}'.format(1234567.891)|'{:<08}'.format(3)|'{a}'.format_map({'a': 1})|'{!a}'.format('é')
d.get('b')|d.get('x')|d.get('x', 5)|d.get('C', 5)|d.keys() | list|d.values() | list|d.copy()|d.pop('b')|l.append(4)|l.index(1)|l.count(1)|l.index(99)|l.copy()|(1, 2).index(2)|d.update({})|t.nope|t.nope()|n.x|nil.x|d.items.x
l | sort|w | sort|w | sort(case_sensitive=true)|w | sort(reverse=true)|users | sort(attribute='age') | map(attribute='name') | list|users | sort(attribute='age,name', reverse=true) | map(attribute='name') | join(' ')|users | sort(attribute='role.id') | map(attribute='name') | list|d | dictsort|d | dictsort(true)|{'a': 2, 'b': 1} | dictsort(by='value')|{'a': 2, 'b': 1} | dictsort(reverse=true)|w | unique | list|w | unique(case_sensitive=true) | list|users | unique(attribute='age') | map(attribute='name') | list
l | min|l | max|w | min|w | max|w | max(case_sensitive=true)|users | max(attribute='age')|[] | min|l | sum|users | sum(attribute='age')|l | sum(start=10)|[] | sum|[[1], [2]] | sum(start=[])|['a'] | sum|l | first|l | last|[] | first|[] | last|u | first|u | last|d | first|d | last|l | length|t | length|d | count|n | length|nil | length|missing | length|l | reverse | list|u | reverse|(1, 2) | reverse | list
l | join|l | join(', ')|users | join(', ', attribute='name')|[1, none, true] | join('-')|d | join(',')|u | join('.')|l | batch(2) | list|l | batch(2, 0) | list|l | slice(2) | list|l | slice(2, 0) | list|range(10) | slice(3) | list|range(10) | batch(4) | list|l | list|u | list | length|d | list|n | list|l | map('string') | list|w | map('upper') | list|w | map('upper') | join|users | map(attribute='name') | list|users | map(attribute='zip', default='none') | list|users | map(attribute='role.id') | list|[[1, 2], [3, 4]] | map(attribute=0) | list|w | map('replace', 'a', 'z') | list|w | map('nope') | list|l | map | list
l | select | list|[0, 1, '', none] | select | list|l | select('odd') | list|l | reject('odd') | list|l | select('>', 1) | list|l | select('in', [1, 2]) | list|users | selectattr('age', '==', 30) | map(attribute='name') | list|users | rejectattr('age', 'equalto', 30) | list|users | selectattr('role.id', 'eq', 'x') | list | length|users | selectattr('nope') | list|users | rejectattr('nope', 'defined') | list | length|messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | first
users | groupby('age')|users | groupby('age') | map(attribute='grouper') | list|users | groupby('name', case_sensitive=true) | map('first') | list|(users | groupby('age'))[0].list | length|users | groupby('zip', default='-')|[{'a': 'x'}, {'a': 'X'}] | groupby('a')|d | items | list|missing | items | list|l | items | list
t | upper|t | lower|t | title|t | capitalize|'foo-bar (baz) [qux] {x} <y' | title|"it's o'clock" | title|n | upper|nil | upper|t | trim|'xxaxx' | trim('x')|t | replace('l', 'L')|t | replace('l', 'L', 1)|n | replace(7, 8)|t | escape|t | e|'<a>' | forceescape|'<p>a <b>b</b>  c</p> <!-- <x> --> &lt;d&gt; &amp;amp;' | striptags|'a < b' | striptags|t | wordcount|'a b-c d_e' | wordcount|t | urlencode|'a b/c?d=é&f' | urlencode|{'a b': 'c d', 'e': 1} | urlencode|[('a', 1), ('b/', 'x y')] | urlencode
u | truncate(20)|u | truncate(20, true)|u | truncate(20, false, '!')|u | truncate(20, true, '', 0)|u | truncate|u | truncate(41)|u | truncate(2)|'abcdefghijklmnopq' | truncate(10)|u | center(60) ~ '|'|u | center|'ab' | center(7)|u | wordwrap(10)|u | wordwrap(15, wrapstring='|')|'averyveryverylongword and more' | wordwrap(8)|'averyveryverylongword and more' | wordwrap(8, false)|'self-contained well-known' | wordwrap(8)|'a\\n\\nb c' | wordwrap(3)|'one two  three   four' | wordwrap(9)
'a\\nb\\n\\nc' | indent|'a\\nb\\n\\nc' | indent(2, true)|'a\\nb\\n\\nc' | indent(2, blank=true)|'a\\nb' | indent('> ')|'a\\nb\\n' | indent(2) ~ '|'|'' | indent ~ '|'|'' | indent(first=true) ~ '|'|'a\\r\\nb' | indent(1)|'%s-%s' | format('a', 'b')|'%(x)s' | format(x=1)|'%s' | format|t | string|n | string ~ 'x'|l | string|nil | string|t | safe | length
'42' | int|'42.7' | int|'x' | int|'x' | int(5)|'0x1f' | int(base=16)|'ff' | int(0, 16)|'101' | int(base=2)|' 12 ' | int|'-7' | int|'1_000' | int|f | int|-2.7 | int|true | int|nil | int|'1e3' | int|'3.5' | float|'x' | float|'x' | float(1.5)|n | float|nil | float|'inf' | float|'1e400' | float|l | int|-3 | abs|f | abs|-f | abs|'a' | abs|f | round|3.5 | round|2.675 | round(2)|1234.5678 | round(-2)|7 | round|17 | round(-1)|42.55 | round(1, 'floor')|42.55 | round(1, 'ceil')|1.1 | round(0, 'ceil')|f | round(1, 'x')
missing | default('x')|e | default('x')|e | default('x', true)|nil | default('x')|nil | d('x', true)|missing | default|d | attr('b')|t | attr('upper')|999 | filesizeformat|1000 | filesizeformat|1500000 | filesizeformat|1 | filesizeformat|1024 | filesizeformat(true)|'2000' | filesizeformat|{'class': 'a<b', 'id': none, 'x': 1} | xmlattr|{'a': 1} | xmlattr(false)|{'a b': 1} | xmlattr
d | tojson|l | tojson|t | tojson|n | tojson|f | tojson|big | tojson|nil | tojson|yes | tojson|users | tojson|d | tojson(indent=2)|d | tojson(indent=0)|[] | tojson(indent=2)|{} | tojson(indent=4)|d | tojson(separators=(',', ':'))|{'b': 1, 'a': 2} | tojson(sort_keys=true)|'é🦀\\x7f' | tojson(ensure_ascii=true)|(1, 2) | tojson|{1: 2, none: 3, true: 4, 1.5: 5} | tojson|missing | tojson|range | tojson|[1.0, 1e-7, 1e100] | tojson|'<>&\\u2028' | tojson|d | tojson(indent='--')
d | pprint|deep | pprint|users | pprint|t | pprint|'word ' * 30 | pprint|['word ' * 30] | pprint|l * 40 | pprint|('a' * 40, 'b' * 40) | pprint|('a' * 90,) | pprint|{'z': 1, 'a': 2} | pprint|n | pprint|'line one is here\\nline two is here\\n' * 4 | pprint
joiner|joiner(', ')()|cycler('a', 'b').next()|cycler('a', 'b').current|cycler()|dict(a=1, b=2)|dict({'x': 1}, y=2)|dict([('a', 1)])|namespace(a=1).a|namespace(a=1).b|namespace({'a': 1}).a|range(100001)|range(1, 5) | sum|range(3) == range(3)|lipsum is callable|raise_exception('no')|1()|'a'()|t.upper|nope()|nope | upper|n | nope|n is nope|(1, 2) | list|[1, 2][0] + 1|((1))|'a' 'b' "c"|[1, [2, [3]]][1][1][0]|{'a': {'b': 1}}['a']['b']|{'a': 1}.a|-n | abs|(-n) | abs|- - 3|+ 3|not n == 7|not 1 in l|1 if 2 < 1 else 3|n if n > 5|'\\x41\\u00e9\\101\\q'|'a\\
b'|none|None|True|1 . real|yes ~ ''|3.0|1e5|"\\'"|l|length
'ß'.upper()|'ǆ'.title()|'ﬁx'.capitalize()|'ΑΣ'.lower()|'ΑΣΑ'.lower()|'İ'.lower()|'straße'.casefold()|'ŉ'.upper()|'ΐ'.upper()|'ᾳ'.title()
""".strip()

TEMPLATES = [
    "a\n  {% if yes %}\nb\n  {% endif %}\nc\n",
    "a\n\n{%- if yes %}\n\n  b\n{%- endif %}\n\n",
    "  {% if yes +%}\n x{% endif %}",
    "a {%+ if yes %}b{% endif %}\n",
    "   {%+ if yes %}b{% endif %}\n",
    "a  {#- c -#}  b{# x #}\nc",
    "  {# comment #}\nx\n",
    "{{- 'a' -}}  b  {{ 'c' -}}\n d",
    "{% raw %}{{ x }}{% if %}{% endraw %}|",
    "  {% raw -%}  a  {%- endraw %}\nb",
    "{%- raw -%}  a {{ b }} \n{%- endraw -%}  b",
    "x\r\ny\rz\n\n",
    "{{ {'a': {'b': 1}} }}",
    "{% set x = 1 %}{% for i in l %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}",
    "{% set ns = namespace(x=0) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }};{% endfor %}",
    "{% for i in l %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }} {% endfor %}",
    "{% for i in [1, 1, 2, 2, 1] %}{{ loop.changed(i) }}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for i in [] %}x{% else %}empty{% endfor %}",
    "{% for i in l if i > 1 %}{{ loop.index }}/{{ loop.length }}:{{ i }} {% else %}none{% endfor %}",
    "{% for i in l if i > 5 %}x{% else %}none{% endfor %}",
    "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d | dictsort %}{{ k }}{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}{% for c in 'añb' %}[{{ c }}]{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{% endfor %}",
    "{% for i in n %}{% endfor %}",
    "{% for i in missing %}x{% else %}none{% endfor %}",
    "{% for x in [{'n': 1, 'c': [{'n': 2, 'c': []}]}, {'n': 3, 'c': []}] recursive %}{{ x.n }}@{{ loop.depth }}({{ loop(x.c) }}){% endfor %}",
    "{% for i in l %}{% for j in l %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}",
    "{% macro f(a, b=2, c='x') %}<{{ a }}{{ b }}{{ c }}>{% endmacro %}{{ f(1) }}{{ f(1, c=3) }}{{ f(b=1, a=0) }}{{ f() }}",
    "{% macro f(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, 3, x=4) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=2) }}",
    "{% macro f(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}g{% endmacro %}{{ f() }}",
    "{% set x = 1 %}{% macro f() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ f() }}",
    "{% macro f() %}[{{ caller() }}]{% endmacro %}{% call f() %}body{% endcall %}",
    "{% macro f(l) %}{% for i in l %}{{ caller(i) }};{% endfor %}{% endmacro %}{% call(x) f(l) %}<{{ x }}>{% endcall %}",
    "{% macro f() %}x{% endmacro %}{% call f() %}body{% endcall %}",
    "{% macro f(x) %}{{ x }}{% endmacro %}{{ f.name }}{{ f.arguments }}{{ f('a') | upper }}",
    "{% macro f(x, y) -%}\n  {{ x }}-{{ y }}\n{%- endmacro %}[{{ f(*[1, 2]) }}{{ f(**{'y': 1, 'x': 2}) }}]",
    "{% set x %}a{{ n }}b{% endset %}{{ x }}",
    "{% set x | upper | replace('A', 'z') %}a{{ n }}b{% endset %}{{ x }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a = 1, 2 %}{{ a }}",
    "{% set (a, b) = [1, 2] %}{{ a }}{{ b }}",
    "{% set x.y = 1 %}",
    "{% set d.y = 1 %}",
    "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% with %}{% set a = 1 %}{{ a }}{% endwith %}{{ a }}",
    "{% filter upper %}a{{ t }}{% endfilter %}",
    "{% filter replace('a', 'b') | upper %}banana{% endfilter %}",
    "{% if yes %}{% set z = 1 %}{% endif %}{{ z }}",
    "{% if no %}a{% elif n == 7 %}b{% else %}c{% endif %}",
    "{% if no %}{{ x | nope }}{{ y is nope }}{% endif %}ok",
    "{{ (x | nope) if no else 'ok' }}",
    "{% block b %}{{ n }}{% endblock %}{% block c %}x{% endblock c %}",
    "{% generation %}a{{ n }}{% endgeneration %}b",
    "{% print n, t %}",
    "{{ 1, 2 }}",
    "{{ l }}{{ '}}' }}{{ \"%}\" }}",
    "{% set j = joiner(', ') %}{% for i in l %}{{ j() }}{{ i }}{% endfor %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.current }}",
    "{% set g = l | map('string') %}{{ g | join }}{{ g | join }}{% if g %}true{% endif %}",
    "{% if l | select('>', 9) %}generators are true{% endif %}",
    "{% if l | select('>', 9) | list %}x{% else %}lists are not{% endif %}",
    "{%- for m in messages -%}{%- if m.role == 'user' -%}{{ m.content }}{%- endif -%}{%- endfor -%}",
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] }}{{ '\n' if not loop.last }}{% endfor %}",
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set s = messages[0]['content'] %}{% endif %}{{ s }}{{ loop_messages | length }}",
    "{{ messages[-1].content }}{{ messages[-1]['content'][:1] }}{{ messages | length - 1 }}",
    "{{ messages | map(attribute='role') | join(',') }}",
    "{% for m in messages[::-1] %}{{ m.role }}{% endfor %}",
    "{% set x = namespace(found=false) %}{% for m in messages %}{% if not x.found and m.role == 'user' %}{% set x.found = true %}{{ loop.index0 }}{% endif %}{% endfor %}",
    "{{ undefined_function() }}",
    "{{ n.foo.bar }}",
    "{% if missing.x %}{% endif %}",
    "{{ '' if missing is not defined or missing is none else missing }}",
    "{% include 'x' %}",
    "{% break %}",
    "{% for i in l %}{{ i }}",
    "{{ 1 + }}",
    "{% nope %}",
    "{{ 'a }}",
    "{% autoescape false %}{{ t }}{% endautoescape %}",
    "{{ t is string and t is not none and 'World' in t }}",
    "{{ l is sameas l and (l | length) > 2 }}",
    "{% for i in range(3) %}{{ i }}{{ ',' if not loop.last else '.' }}{% endfor %}",
    "{{ [1, 2] is iterable and [1] is not string and d is not sequence }}",
    "{%- set f = d.get('a') or [] -%}{{ f[1].get('k') }}",
]


def result(template):
    try:
        return ENV.from_string(template).render(**copy.deepcopy(VARIABLES))
    except Exception:
        return None


def main():
    sources = [f"{{{{ {e.strip(' ')} }}}}" for line in EXPRESSIONS.split("\n") for e in split(line)] + TEMPLATES
    texts = ["", "a", "Hello World", "  x  y ", "éÀ-ß", "1.5", "a\nb\n"]
    methods = "upper() lower() title() capitalize() swapcase() split() splitlines() strip() isalpha() isdigit() istitle()"
    for text, method in itertools.product(texts, methods.split()):
        sources.append(f"{{{{ {json.dumps(text, ensure_ascii=False)}.{method} }}}}")
    values = ["t", "e", "n", "f", "yes", "nil", "l", "w", "d", "users", "missing", "(1, 2)", "range(3)", "-3"]
    filters = (
        "abs capitalize center count default dictsort escape first float int items join last length list lower"
        " max min pprint reverse round select sort string striptags sum title tojson trim truncate unique upper"
        " urlencode wordcount wordwrap indent reject batch(2) slice(2)"
    )
    for value, name in itertools.product(values, filters.split()):
        sources.append(f"{{{{ {value} | {name} }}}}")
        sources.append(f"{{{{ {value} | {name} | list }}}}")
    tests = (
        "odd even defined none boolean false true integer float lower upper string mapping number sequence iterable"
        " callable escaped"
    )
    for value, name in itertools.product(values, tests.split()):
        sources.append(f"{{{{ {value} is {name} }}}}")
    for (a, b), o in itertools.product(itertools.product(values, values), ["+", "*", "%", "==", "<", "in"]):
        sources.append(f"{{{{ {a} {o} {b} }}}}")
    cases = []
    for source in dict.fromkeys(sources):
        text = result(source)
        # Addresses of objects are nobody's to reproduce.
        if text is None or not any(word in text for word in [" at 0x", "<built-in", "<class", "<bound"]):
            cases.append([source, text])
    (Path(__file__).parent / "jinja.json").write_text(
        json.dumps({"variables": VARIABLES}, ensure_ascii=False)[:-1]
        + ',"cases":[\n'
        + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
        + "\n]}\n"
    )
    print(len(cases), "cases,", sum(text is None for _, text in cases), "errors")


def split(line):
    """Cuts at every | that stands without a space after it."""
    parts, start = [], 0
    for at, c in enumerate(line):
        quoted = line[start:at].count("'") % 2 and line[start:at].replace("\\'", "").count("'") % 2
        if c == "|" and line[at + 1 : at + 2] != " " and not quoted:
            parts.append(line[start:at])
            start = at + 1
    return parts + [line[start:]]


if __name__ == "__main__":
    main()
