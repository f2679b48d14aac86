"""The contracts of substrates, rules and chips as programs, to be run on one of your own. Provisional.

They check every contract, on networks that they bring along or on yours, and list all that are broken:

>>> from spikeloop import EventProp, Ideal
>>> from spikeloop.conformance import check_rule, check_substrate
>>> check_substrate(Ideal())
>>> check_rule(EventProp())
"""

from spikeloop.conformance.cases import Breach, ConformanceError
from spikeloop.conformance.chip import check_chip
from spikeloop.conformance.rule import check_rule
from spikeloop.conformance.substrate import check_substrate

__all__ = ["Breach", "ConformanceError", "check_chip", "check_rule", "check_substrate"]
