"""Receptors, constant currents and neurons without a leak, from model numbers to a chip's codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip import transfer
from spikeloop.chip.calibration import RANGES, Target, code_of, outside
from spikeloop.chip.configuration import CIRCUITS, CODE_MAX, CYCLE
from spikeloop.chip.inputs import Inputs, Switching
from spikeloop.chip.mapping import Placement, site_key
from spikeloop.chip.receptors import reversal_of, split_lines, tau_of
from spikeloop.chip.scales import Scale
from spikeloop.errors import OutOfRange, Unsupported
from spikeloop.network import Network
from spikeloop.neuron import Site
from spikeloop.population import Population
from spikeloop.steps import Steps

Float = NDArray[np.float64]
_ALIKE = 1e-6  # relative: magnitudes of a current that are one
_SLACK = 0.5  # of a code


def nominal_inputs(
    network: Network, placement: Placement, target: Target, scales: Mapping[str, Scale], speedup: float
) -> Inputs | None:
    """The codes of the laws for receptors and missing leaks; None where a circuit's lines are alike, and all leak.

    Raises ``OutOfRange`` for what no code gives.
    """
    made = Inputs()
    arrays = {name: np.array(getattr(made, name)) for name in Inputs.__dataclass_fields__}
    arrays["reference"] = code_of(transfer.code_of_steps(target.leak))
    for name, population, site, lines in split_lines(network):
        key = site_key(name, site.name)
        circuit = placement.site[key]
        assert population.structure is not None
        base = tau_of(population, site, site.receptors[0])
        for row, receptor in enumerate(lines):
            _lay_line(arrays, (row, circuit), (name, population, site, receptor), base, speedup)
            _lay_reversal(arrays, (row, circuit), (name, population, site, receptor), scales[key])
    for name, population in network.populations.items():
        for site in population.structure.sites if population.structure is not None else ():
            if not site.leaky:
                arrays["leak_off"][placement.site[site_key(name, site.name)]] = True
    made = Inputs(**arrays)
    return None if made.lasting is None else made


Receptor = tuple[str, Population, Site, str]


def _lay_line(
    arrays: dict[str, NDArray[np.generic]], at: tuple[int, NDArray[np.int64]], of: Receptor, base: Float, speedup: float
) -> None:
    """Codes for a line that is not like the first receptor, which the calibration is for."""
    name, population, site, receptor = of
    tau = tau_of(population, site, receptor) / speedup
    if np.allclose(tau * speedup, base, rtol=1e-6, atol=0):
        return
    low, high, unit = RANGES["tau_syn"]
    wrong = outside(tau, low, high)
    if len(wrong):
        given = tau[wrong[0]]
        raise OutOfRange(
            f"tau_syn of receptor {receptor!r} is {given * speedup:g} s ({given:g} {unit} on the chip)",
            where=f"population {site_key(name, site.name)!r}",
            expected=f"{low * speedup:g} to {high * speedup:g} s ({low:g} to {high:g} s on the chip, at speedup "
            f"{speedup:g})", todo="Choose another speedup, or another time",
        )  # fmt: skip
    row, circuit = at
    code, division = transfer.synapse_code(tau)
    arrays["separate"][row, circuit] = True
    arrays["synapse_bias"][row, circuit] = code_of(code)[:, None]
    arrays["synapse_division"][row, circuit] = division[:, None]


def _lay_reversal(
    arrays: dict[str, NDArray[np.generic]], at: tuple[int, NDArray[np.int64]], of: Receptor, scale: Scale
) -> None:
    name, population, site, receptor = of
    reversal = reversal_of(population, site, receptor)
    if reversal is None:
        return
    code = transfer.code_of_steps(scale.rest + scale.steps * (reversal - scale.leak))
    wrong = np.flatnonzero((code < 0) | (code > CODE_MAX))
    if len(wrong):
        low, high = (
            scale.leak[wrong[0]] + (transfer.steps_of_volts(transfer.volts(np.array(end))) - scale.rest[wrong[0]])
            / scale.steps[wrong[0]] for end in (0, CODE_MAX)
        )  # fmt: skip
        raise OutOfRange(
            f"the reversal of receptor {receptor or 'default'!r} is {reversal[wrong[0]]:g} (code "
            f"{code[wrong[0]]:.4g})", where=f"population {site_key(name, site.name)!r}",
            expected=f"{low:.4g} to {high:.4g}: codes 0 to {CODE_MAX}",
            todo="Choose one nearer to the leak, or leave reversal out",
        )  # fmt: skip
    row, circuit = at
    arrays["conductance"][row, circuit] = True
    arrays["reversal"][row, circuit] = code_of(code)[:, None]


# ---- constant currents ----------------------------------------------------------------------------------------------


def lower_steps(
    network: Network, steps: Mapping[str, Steps], placement: Placement, inputs: Inputs | None, speedup: float,
    law: tuple[Mapping[str, Scale], Target, Float],
) -> tuple[Inputs | None, Switching | None]:  # fmt: skip
    """Currents of a drive as codes of the circuits' constant currents, and when those are switched.

    law: scales, target of the calibration, and (512,) how strong the currents of each circuit were found to be, over
    what the law gives.

    Raises ``Unsupported`` where a neuron would need two strengths, ``OutOfRange`` for one beyond the largest code.
    """
    if not steps:
        return inputs, None
    offset = np.zeros(CIRCUITS, np.int16)
    parts = list[tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.int64]]]()
    for name, given in steps.items():
        population, compartment = network.place("drive", name)
        circuit = placement.site[site_key(population, compartment)]
        strength, sign = _switched(name, given)
        offset[circuit] = _offset_codes(name, strength, circuit, law, site_key(population, compartment))
        cycle = np.rint(given.time.numpy() / (speedup * CYCLE)).astype(np.int64)
        parts.append((cycle, sign, circuit))
    return replace(inputs or Inputs(), offset=offset), _together(parts)


def _switched(name: str, given: Steps) -> tuple[Float, NDArray[np.int8]]:
    """(N,) the one strength of each neuron's current, and (B or 1, T, N) its signs."""
    value = given.value.detach().double().numpy()
    value = value[None] if value.ndim == 2 else value
    strength: Float = np.abs(value).max((0, 1))
    wrong = np.argwhere((value != 0) & (np.abs(np.abs(value) - strength) > _ALIKE * strength))
    if len(wrong):
        sample, time, unit = wrong[0]
        raise Unsupported(
            f"the current of neuron {unit} is {value[sample, time, unit]:g} from {float(given.time[time]):g} s on, and "
            f"{strength[unit]:g} elsewhere", where=f"drive {name!r}",
            expected="0, or plus or minus one value for each neuron: a chip's constant current has one code, and is "
            "switched on and off, to source or sink", todo="Take one value, or run it on Ideal",
        )  # fmt: skip
    return strength, np.sign(value).astype(np.int8)


def _offset_codes(
    name: str, strength: Float, circuit: NDArray[np.int64], law: tuple[Mapping[str, Scale], Target, Float], key: str
) -> NDArray[np.int16]:
    """(N, n): the circuits of a neuron have one code, and their currents add up."""
    scales, target, found = law
    head, scale = circuit[:, 0], scales[key]
    joined = np.rint(target.capacitance)[circuit].sum(1)
    resistance = transfer.resistance(target.tau_mem[head], joined)
    each = strength * scale.steps * transfer.STEP / transfer.OFFSET_CODE / resistance / circuit.shape[1]
    code = each[:, None] / found[circuit]
    wrong = np.argwhere(code > CODE_MAX + _SLACK)
    if len(wrong):
        unit = wrong[0][0]
        raise OutOfRange(
            f"the current of neuron {unit} is {strength[unit]:g} (code {code[unit].max():.4g})",
            where=f"drive {name!r}",
            expected=f"at most {strength[unit] * CODE_MAX / code[unit].max():.4g}: code {CODE_MAX}",
            todo="Take a smaller current, or a longer tau_mem",
        )  # fmt: skip
    return code_of(code)


def _together(parts: list[tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.int64]]]) -> Switching:
    """The switching of all circuits at the times of any; of two times in one cycle the later counts."""
    cycle = np.unique(np.concatenate([each for each, _, _ in parts]))
    state = np.zeros((max(len(sign) for _, sign, _ in parts), len(cycle), CIRCUITS), np.int8)
    for when, sign, circuit in parts:
        last = np.searchsorted(when, cycle, side="right") - 1
        of_neuron = np.where((last >= 0)[None, :, None], sign[:, np.maximum(last, 0)], 0)
        state[:, :, circuit] = of_neuron[..., None]
    return Switching(cycle, state)
