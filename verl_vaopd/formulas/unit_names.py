"""Spellings of units: the base, then spellings and how many of the base one is. Words are known in any case."""

from fractions import Fraction

_TABLE = """
m: m meters metres 米 公尺 = 1; mm millimeters millimetres 毫米 = 1/1000; cm centimeters centimetres 厘米 公分 = 1/100
m: dm decimeters decimetres 分米 = 1/10; km kilometers kilometres 千米 公里 = 1000; in inch inches 英寸 = 0.0254
m: ft foot feet 英尺 = 0.3048; yd yards 码 = 0.9144; mi miles 英里 = 1609.344
g: g grams 克 = 1; mg milligrams 毫克 = 1/1000; kg kilograms 千克 公斤 = 1000
g: t tons ton tonnes 吨 = 1000000; oz ounces = 28.349523125; lb lbs pounds 磅 = 453.59237
s: s sec secs seconds 秒 = 1; ms milliseconds 毫秒 = 1/1000; min mins minutes 分钟 分 = 60
s: h hr hrs hours 小时 时 = 3600; days day 天 日 = 86400; weeks 周 星期 = 604800
month: months 个月 月 = 1; years yr yrs 年 = 12
L: L l liters litres 升 = 1; mL ml milliliters millilitres 毫升 cc = 1/1000; gal gallons 加仑 = 3.785411784
ha: ha hectares 公顷 = 1
acre: acres 英亩 = 1
°: ° deg degs degrees 度 = 1
rad: rad rads radians 弧度 = 1
%: % percent pct 百分之 = 1
$: $ dollars USD bucks 美元 = 1; cents ¢ 美分 = 1/100
€: € euros EUR 欧元 = 1
£: £ GBP 英镑 = 1
¥: ¥ yuan RMB CNY 元 人民币 块 = 1; 角 = 1/10
₹: ₹ rupees Rs INR = 1
₩: ₩ KRW = 1
°C: °C °_C celsius degrees_celsius 摄氏度 = 1
°F: °F °_F fahrenheit degrees_fahrenheit 华氏度 = 1
N: N newtons 牛顿 牛 = 1; kN = 1000
J: J joules 焦耳 焦 = 1; kJ = 1000; cal calories = 4.184; kcal = 4184
W: W watts 瓦特 瓦 = 1; kW kilowatts 千瓦 = 1000
V: V volts 伏特 伏 = 1; kV = 1000
A: A amps amperes 安培 安 = 1
Ω: Ω ohms 欧姆 = 1
Pa: Pa pascals 帕 = 1; kPa = 1000
Hz: Hz hertz 赫兹 = 1; kHz = 1000; MHz = 1000000; GHz = 1000000000
mol: mol moles 摩尔 = 1
K: K kelvin kelvins = 1
eV: eV = 1
KB: KB kB = 1
MB: MB megabytes = 1
GB: GB gigabytes = 1
TB: TB terabytes = 1
': ' = 1
'': " '' = 1
: units u 单位 = 1
"""
SPEEDS = {"kmh": "km/h", "kph": "km/h", "mph": "mi/h", "fps": "ft/s"}
MULTIPLIERS = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
MULTIPLIERS |= {"千": 10**3, "万": 10**4, "亿": 10**8}
NO_UNIT = set(
    "or and not but to of is are the a an if then than so x y z pi sin cos tan cot sec csc log ln exp".split()
)


def _names() -> dict[str, tuple[str, Fraction]]:
    names = {}
    for line in _TABLE.strip().splitlines():
        base, _, groups = line.partition(":")
        for group in groups.split(";"):
            spellings, _, factor = group.rpartition("=")
            for name in (spelling.replace("_", " ") for spelling in spellings.split()):
                names[name] = (base.strip(), Fraction(factor.strip()))
                if len(name) > 4 and name.endswith("s") and name.isascii():
                    names[name[:-1]] = names[name]
    return names


NAMES = _names()
"""Base, "" for one that says nothing, and how many of it, by spelling."""
_PREFIXES = {"p": -12, "n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9}
_WITH = "m g s L N J W V A Ω Pa Hz mol eV cal F C".split()
_ASIDE = "MN GN MA GA ML GL MF GF MC GC pm".split()  # segments, a time: rather than units
PREFIXED = {
    prefix + unit: (base, factor * Fraction(10) ** power)
    for unit in _WITH
    for base, factor in [NAMES.get(unit, (unit, 1))]
    for prefix, power in _PREFIXES.items()
    if prefix + unit not in _ASIDE
}
"""The same of those with a prefix of the SI, ``u`` for micro; here case counts."""
PREFIXED_PATTERN = rf"(?!{'|'.join(_ASIDE)})(?:\\mu\s*|[{''.join(_PREFIXES)}])(?:{'|'.join(_WITH)})"
