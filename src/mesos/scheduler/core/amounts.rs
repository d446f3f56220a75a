//! Quantities of resources, in thousandths: Mesos counts in these, and sums of floats drift.

use std::{
    fmt,
    ops::{Add, AddAssign, Mul},
};

use crate::task::{Bytes, Job};

/// Cores, memory, disk space and devices, each in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a core.
    pub cpus: u64,
    /// Thousandths of a MiB of memory.
    pub mem: u64,
    /// Thousandths of a MiB of disk space.
    pub disk: u64,
    /// Thousandths of a device.
    pub gpus: u64,
}

/// Mesos' names of the quantities, in the order of [`Amounts::each`].
pub const NAMES: [&str; 4] = ["cpus", "mem", "disk", "gpus"];
/// In a quota: this quantity has no limit.
pub const UNLIMITED: u64 = u64::MAX;
const UNITS: [&str; 4] = ["", " MiB", " MiB", ""];

/// Thousandths of a number; 0 for a number that is negative or not a number.
pub fn thousandths(value: f64) -> u64 {
    (value * 1000.0).round().max(0.0) as u64
}

/// Bytes as thousandths of a MiB, in which Mesos counts memory and disk space.
pub fn mib(bytes: Bytes) -> u64 {
    thousandths(bytes.0 as f64 / f64::from(1 << 20))
}

impl Amounts {
    /// What one instance of a job uses, without its executor.
    pub fn of_job(job: &Job) -> Amounts {
        Amounts {
            cpus: thousandths(job.cpu),
            mem: mib(job.ram),
            disk: mib(job.disk),
            gpus: u64::from(job.gpu) * 1000,
        }
    }

    /// The quantities, in the order of [`NAMES`].
    pub fn each(&self) -> [u64; 4] {
        [self.cpus, self.mem, self.disk, self.gpus]
    }

    /// Makes amounts from quantities in the order of [`NAMES`].
    pub fn of(each: [u64; 4]) -> Amounts {
        let [cpus, mem, disk, gpus] = each;
        Amounts {
            cpus,
            mem,
            disk,
            gpus,
        }
    }

    fn with(self, other: Amounts, each: impl Fn(u64, u64) -> u64) -> Amounts {
        let (a, b) = (self.each(), other.each());
        Amounts::of(std::array::from_fn(|index| each(a[index], b[index])))
    }

    /// True when there is at least `needed` of everything.
    pub fn fits(&self, needed: &Amounts) -> bool {
        self.short_of(needed).is_none()
    }

    /// The first quantity, as an index into [`NAMES`], of which there is less than `needed`.
    pub fn short_of(&self, needed: &Amounts) -> Option<usize> {
        let (have, want) = (self.each(), needed.each());
        (0..NAMES.len()).find(|index| have[*index] < want[*index])
    }

    /// Subtracts; a quantity does not go below 0.
    pub fn less(self, other: Amounts) -> Amounts {
        self.with(other, u64::saturating_sub)
    }

    /// Takes the other's quantity for each that has no limit here.
    pub fn or(self, other: Amounts) -> Amounts {
        self.with(
            other,
            |own, other| if own == UNLIMITED { other } else { own },
        )
    }

    /// The larger of each quantity.
    pub fn most(self, other: Amounts) -> Amounts {
        self.with(other, u64::max)
    }
}

impl Add for Amounts {
    type Output = Amounts;

    fn add(self, other: Amounts) -> Amounts {
        self.with(other, u64::saturating_add)
    }
}

impl AddAssign for Amounts {
    fn add_assign(&mut self, other: Amounts) {
        *self = *self + other;
    }
}

impl Mul<u64> for Amounts {
    type Output = Amounts;

    fn mul(self, count: u64) -> Amounts {
        Amounts::of(self.each().map(|one| one.saturating_mul(count)))
    }
}

/// One quantity as people read it: `0.5`, `128 MiB`.
pub fn shown(index: usize, quantity: u64) -> String {
    format!("{}{}", quantity as f64 / 1000.0, UNITS[index])
}

impl fmt::Display for Amounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (index, quantity) in self.each().into_iter().enumerate() {
            if quantity > 0 && quantity < UNLIMITED {
                write!(f, "{separator}{} {}", NAMES[index], shown(index, quantity))?;
                separator = ", ";
            }
        }
        if separator.is_empty() {
            let is_all = self.each().contains(&UNLIMITED);
            f.write_str(if is_all { "everything" } else { "nothing" })?;
        }
        Ok(())
    }
}

/// Numbers of ports, as ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports(Vec<(u16, u16)>);

impl Ports {
    /// Adds a range, both ends included; a range whose last port is below its first adds nothing.
    pub fn add(&mut self, first: u16, last: u16) {
        if first <= last {
            self.0.push((first, last));
        }
    }

    /// Adds all ports of another set.
    pub fn append(&mut self, mut other: Ports) {
        self.0.append(&mut other.0);
    }

    /// How many ports there are.
    pub fn count(&self) -> usize {
        let sizes = self.0.iter();
        sizes
            .map(|(first, last)| usize::from(last - first) + 1)
            .sum()
    }

    /// Takes out this many ports, the lowest first. `None`, and nothing taken, when there are
    /// fewer.
    pub fn take(&mut self, count: usize) -> Option<Vec<u16>> {
        if self.count() < count {
            return None;
        }
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            let (first, last) = self.0.first_mut()?;
            taken.push(*first);
            match first < last {
                true => *first += 1,
                false => drop(self.0.remove(0)),
            }
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_taken_across_ranges_or_not_at_all() {
        let mut ports = Ports::default();
        ports.add(31000, 31001);
        ports.add(32000, 32000);
        ports.add(9, 8);
        assert_eq!(ports.take(4), None);
        assert_eq!(ports.count(), 3);
        assert_eq!(ports.take(1), Some(vec![31000]));
        assert_eq!(ports.take(2), Some(vec![31001, 32000]));
        assert_eq!(ports, Ports::default());
    }

    #[test]
    fn amounts_say_what_is_short() {
        let have = Amounts::of([500, 64_000, 0, 0]);
        assert!(have.fits(&Amounts::of([500, 64_000, 0, 0])));
        assert_eq!(have.short_of(&Amounts::of([500, 64_001, 1, 0])), Some(1));
        assert_eq!(have.to_string(), "cpus 0.5, mem 64 MiB");
        assert_eq!(thousandths(0.1 + 0.2), 300);
    }
}
