//! Where the calls of an interval can lie for certain, slot by slot: as fast as they can have been, and as slow.
//!
//! Must not: allocate, or place a call anywhere but at its bounds.

use super::bounds::{CallGroup, CallGroups};
use super::grid::{self, SLOT_EDGES, SLOTS};
use super::moments::Interval;

/// Parts of a slot, in the logarithm: 0 is its lower edge, this one its upper.
const PARTS: f64 = 255.0;
/// Rounding of the parts.
const ROUNDING: f64 = 1e-6;

/// Calls at their bounds within one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlotEnds {
    /// Calls whose shortest possible time lies here,
    pub fastest: u32,
    /// and whose longest does.
    pub slowest: u32,
    /// None of the first is shorter than this part of the slot,
    pub from: u8,
    /// and none of the second longer than this one.
    pub to: u8,
}

impl SlotEnds {
    pub(super) const NONE: Self = Self { fastest: 0, slowest: 0, from: u8::MAX, to: 0 };

    /// Both together. The numbers wrap around, and back where they are taken away again.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            fastest: self.fastest.wrapping_add(other.fastest),
            slowest: self.slowest.wrapping_add(other.slowest),
            from: self.from.min(other.from),
            to: self.to.max(other.to),
        }
    }
}

/// Fewest and most calls up to a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct UpTo {
    pub least: u32,
    pub most: u32,
}

impl UpTo {
    /// The numbers wrap around, and back where they are taken away again.
    pub(super) fn add(&mut self, other: Self) {
        self.least = self.least.wrapping_add(other.least);
        self.most = self.most.wrapping_add(other.most);
    }

    pub(super) fn remove(&mut self, other: Self) {
        self.least = self.least.wrapping_sub(other.least);
        self.most = self.most.wrapping_sub(other.most);
    }
}

/// The calls of one interval at their bounds. 4 KiB, to be used again and again.
#[derive(Debug, Clone)]
pub struct PlacedCalls {
    slots: [SlotEnds; SLOTS],
    /// The slots in use.
    first: usize,
    end: usize,
    /// Up to the objective itself, which need not be an edge.
    objective: UpTo,
    sure: bool,
    most: [u32; SLOTS],
}

impl Default for PlacedCalls {
    fn default() -> Self {
        Self {
            slots: [SlotEnds::NONE; SLOTS],
            first: 0,
            end: 0,
            objective: UpTo::default(),
            sure: false,
            most: [0; SLOTS],
        }
    }
}

impl PlacedCalls {
    /// Places the calls of an interval. `objective` is the time in seconds for which the share of longer calls is wanted.
    pub fn place(&mut self, interval: &Interval, objective: f64) {
        self.clear();
        let Some(groups) = CallGroups::of(interval) else { return };
        self.sure = true;
        for group in groups.iter() {
            let (least, most) = group.counts(objective);
            self.objective.add(UpTo { least: count(least), most: count(most) });
            self.add(group);
        }
    }

    /// Nothing is known of the calls.
    pub fn clear(&mut self) {
        self.slots[self.first..self.end].fill(SlotEnds::NONE);
        (self.first, self.end, self.sure) = (0, 0, false);
        self.objective = UpTo::default();
    }

    /// Whether something is certain.
    pub fn is_sure(&self) -> bool {
        self.sure
    }

    pub(super) fn slots(&self) -> (usize, &[SlotEnds]) {
        (self.first, &self.slots[self.first..self.end])
    }

    pub(super) fn objective(&self) -> UpTo {
        self.objective
    }

    fn add(&mut self, group: &CallGroup) {
        let (low, high) = group.bounds();
        let (first, last) = (grid::slot(low), grid::slot(high));
        if self.first == self.end {
            (self.first, self.end) = (first, last + 1);
        }
        (self.first, self.end) = (self.first.min(first), self.end.max(last + 1));
        // The fewest up to an edge are no fewer than those up to an earlier one, the most no more than those
        // up to a later one.
        let n = count(group.n);
        let mut least = 0;
        for slot in first..=last {
            let (l, m) = match slot {
                _ if slot == last => (n, n),
                _ => {
                    let (l, m) = group.counts(SLOT_EDGES[slot + 1]);
                    (count(l), count(m))
                }
            };
            let l = l.max(least);
            self.most[slot] = m;
            if l > least {
                let to = if slot == last { part_to(slot, high) } else { u8::MAX };
                let ends = SlotEnds { slowest: l - least, to, ..SlotEnds::NONE };
                self.slots[slot] = self.slots[slot].and(ends);
            }
            least = l;
        }
        for slot in (first..last).rev() {
            self.most[slot] = self.most[slot].min(self.most[slot + 1]);
        }
        let mut before = 0;
        for slot in first..=last {
            let most = self.most[slot];
            if most > before {
                let from = if slot == first { part_from(slot, low) } else { 0 };
                let ends = SlotEnds { fastest: most - before, from, ..SlotEnds::NONE };
                self.slots[slot] = self.slots[slot].and(ends);
            }
            before = most;
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "no more calls than this are placed")]
fn count(calls: u64) -> u32 {
    calls as u32
}

/// Which part of its slot a time is at least.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and 255; the cast saturates"
)]
fn part_from(slot: usize, x: f64) -> u8 {
    (place(slot, x) - ROUNDING).floor() as u8
}

/// Which part of its slot a time is at most. What is off the grid is not below it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and 255; the cast saturates"
)]
fn part_to(slot: usize, x: f64) -> u8 {
    (place(slot, x) + ROUNDING).ceil().max(1.0) as u8
}

fn place(slot: usize, x: f64) -> f64 {
    let (low, high) = (SLOT_EDGES[slot], SLOT_EDGES[slot + 1]);
    (x / low).ln() / (high / low).ln() * PARTS
}

/// The time at a part of a slot. What lies off the grid has no bound there.
pub(super) fn time(slot: usize, part: u8) -> f64 {
    let (low, high) = (SLOT_EDGES[slot], SLOT_EDGES[slot + 1]);
    match part {
        0 if slot == 0 => 0.0,
        u8::MAX if slot == SLOTS - 1 => f64::INFINITY,
        0 => low,
        u8::MAX => high,
        part => low * (high / low).powf(f64::from(part) / PARTS),
    }
}
