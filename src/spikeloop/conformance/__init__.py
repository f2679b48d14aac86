"""The contracts of substrates and rules as programs, to be run on a substrate or a rule of your own. Provisional.

Both check every contract, on networks that they bring along or on yours, and list all that are broken:

>>> from spikeloop import EventProp, Ideal
>>> from spikeloop.conformance import check_rule, check_substrate
>>> check_substrate(Ideal())
>>> check_rule(EventProp())
"""

from spikeloop.conformance.cases import Breach, ConformanceError
from spikeloop.conformance.rule import check_rule
from spikeloop.conformance.substrate import check_substrate

__all__ = ["Breach", "ConformanceError", "check_rule", "check_substrate"]
