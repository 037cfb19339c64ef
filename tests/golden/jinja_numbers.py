"""What Jinja2, set up as in transformers, makes of numbers as Python reads them from JSON: writes jinja_numbers.json.

Needs jinja2. Each case has the JSON text of the variable `x`, a template, and the text, or null for an error.
"""

import json
from pathlib import Path

from chat_templates import environment

NUMBERS = """
0|-0|-0.0|0.0|1.0|1.10|1E5|1e5|1e-7|-1.5e-7|0.1|100000000000000000000.0|1e15|1e16|123456789012345680.0|1e22|1e300|5e-324|1e-400|1e400|-1e400
9007199254740993|9223372036854775807|9223372036854775808|-9223372036854775808|-9223372036854775809|18446744073709551615|18446744073709551616
123456789012345678901234567890|-123456789012345678901234567890|170141183460469231731687303715884105727|170141183460469231731687303715884105728
-170141183460469231731687303715884105728|-170141183460469231731687303715884105729|340282366920938463463374607431768211456
1234567890123456789012345678901234567890123456789012345678901234567890|-1234567890123456789012345678901234567890123456789012345678901234567890
[1, 12345678901234567890123, 1.50, {"a": 99999999999999999999999999999999999999999999}]
""".replace("\n", "|").strip("|").split("|")

TEMPLATES = """
{{ x }}|{{ x|tojson }}|{{ x|string }}|{{ '%s' % x }}|{{ [x] }}|{{ {'k': x}|tojson }}|{{ {x: 1}|tojson }}|{{ x is number }} {{ x is integer }} {{ x is float }}|{{ x|pprint }}
{{ '%d' % x }}|{{ '{}'.format(x) }}|{{ '{:,}'.format(x) }}|{{ x|int }}|{{ x|abs }}|{{ -x }}|{{ x|round }}|{{ x|float }}|{{ x|string|int }}
{{ x == 9007199254740992.0 }} {{ x < 9007199254740992.0 }} {{ x > 1e30 }} {{ x == 340282366920938463463374607431768211456.0 }} {{ x >= 0 }} {{ x == x }}
{{ {x: 'found'}[x] }}|{{ x in [1, x] }}|{{ [x, 1, 0.5]|sort }}|{{ [x, 1, 0.5]|max }}|{% if x %}yes{% endif %}
""".strip().replace("\n", "|").split("|")


def split(templates):
    """Filters are written with the same sign that separates the cases."""
    joined = []
    for part in templates:
        if joined and joined[-1].count("{{") + joined[-1].count("{%") > joined[-1].count("}}") + joined[-1].count("%}"):
            joined[-1] += "|" + part
        else:
            joined.append(part)
    return joined


def main():
    env = environment()
    cases = []
    for number in NUMBERS:
        for template in split(TEMPLATES):
            try:
                text = env.from_string(template).render(x=json.loads(number))
            except Exception:
                text = None
            cases.append([number, template, text])
    out = Path(__file__).with_name("jinja_numbers.json")
    out.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    print(len(cases))


main()
