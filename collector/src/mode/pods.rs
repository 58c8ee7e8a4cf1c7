//! What a pass brought, as pods have it: orphans go back to who made them, and a container that was restarted is one.

use std::collections::BTreeSet;

use crate::accumulate::{Accumulator, Exited, Present};
use crate::attribute::ContainerIndex;
use crate::attribute::conserved::{Charge, Source};
use crate::attribute::containers::{Containers, Place};

/// Takes the names of processes that ended as evidence of what their containers are.
pub(super) fn learn_from_ended(containers: &mut Containers, exited: &[Exited]) {
    for process in exited {
        if let Some(container) = process.container {
            containers.ran(Place { container, nested: process.nested }, process.comm);
        }
    }
}

/// Charges what a sandbox waited for and nobody saw to those whose it was: a sandbox starts nothing, it only adopts orphans
/// where containers share its PID namespace. Where it can have been several containers' nobody is charged. `own`: the
/// collector's container, which leaves none.
pub(super) fn give_orphans_back(
    containers: &Containers,
    present: &[Present],
    charges: &mut [Charge],
    own: Option<ContainerIndex>,
) {
    let adopted = |charge: &Charge| {
        charge.source == Source::Reaped && charge.container.is_some_and(|index| containers.is_overhead(index))
    };
    if !charges.iter().any(adopted) {
        return;
    }
    let there = present.iter().filter_map(|process| process.container);
    let charged = charges.iter().filter_map(|charge| charge.container);
    let possible: BTreeSet<ContainerIndex> = there
        .chain(charged)
        .filter(|index| !containers.is_overhead(*index))
        .map(|index| containers.root(index))
        .filter(|index| Some(*index) != own.map(|own| containers.root(own)))
        .collect();
    let whose = possible.first().copied().filter(|_| possible.len() == 1);
    for charge in charges.iter_mut().filter(|charge| adopted(charge)) {
        charge.container = whose;
    }
}

/// Puts everything where it is after restarts.
pub(super) fn by_root(
    containers: &Containers,
    present: &mut [Present],
    charges: &mut [Charge],
    exited: &mut [Exited],
) {
    if !containers.has_restarts() {
        return;
    }
    let of_present = present.iter_mut().map(|one| &mut one.container);
    let of_charges = charges.iter_mut().map(|one| &mut one.container);
    let of_exited = exited.iter_mut().map(|one| &mut one.container);
    for container in of_present.chain(of_charges).chain(of_exited) {
        *container = container.map(|index| containers.root(index));
    }
}

/// The same for what was counted before it was known.
pub(super) fn unite(containers: &Containers, accumulator: &mut Accumulator) {
    if !containers.has_restarts() {
        return;
    }
    let indexes: Vec<ContainerIndex> = accumulator.containers().map(|(index, _)| index).collect();
    for index in indexes {
        let root = containers.root(index);
        if root != index {
            accumulator.unite(index, root);
        }
    }
}
