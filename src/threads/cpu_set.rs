//! Sets of logical CPUs, and the ways to write them down.

use std::collections::BTreeSet;
use std::fmt;

/// CPUs that a set may name: as many as Linux' `cpu_set_t` holds.
const MAX_CPUS: usize = 1024;

/// A set of logical CPUs, by the system's numbers for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuSet(BTreeSet<usize>);

/// A text that is no set of CPUs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CpuSetError {
    /// Not a mask.
    #[error("found '{found}', expected a hexadecimal mask of CPUs, as 0xf for CPUs 0 to 3")]
    Mask {
        /// What stood there.
        found: String,
    },
    /// Not a range.
    #[error("found '{found}', expected a range of CPUs, as 0-3")]
    Range {
        /// What stood there.
        found: String,
    },
    /// A CPU that no machine has.
    #[error("found '{found}', expected CPUs below {MAX_CPUS}")]
    TooHigh {
        /// What stood there.
        found: String,
    },
}

impl CpuSet {
    /// A hexadecimal number whose bit `i` stands for CPU `i`, with or without `0x`. A mask of zero is an empty set.
    ///
    /// # Errors
    /// For other texts, and for CPUs above 1023.
    pub fn from_mask(mask: &str) -> Result<CpuSet, CpuSetError> {
        let digits = mask.strip_prefix("0x").or_else(|| mask.strip_prefix("0X")).unwrap_or(mask);
        let mut cpus = BTreeSet::new();
        for (i, digit) in digits.chars().rev().enumerate() {
            let digit = digit.to_digit(16).ok_or_else(|| CpuSetError::Mask { found: mask.to_owned() })?;
            cpus.extend((0..4).filter(|bit| digit >> bit & 1 != 0).map(|bit| 4 * i + bit));
        }
        match cpus.last() {
            _ if digits.is_empty() => Err(CpuSetError::Mask { found: mask.to_owned() }),
            Some(last) if *last >= MAX_CPUS => Err(CpuSetError::TooHigh { found: mask.to_owned() }),
            _ => Ok(CpuSet(cpus)),
        }
    }

    /// `first-last`, both included. Without `first` it begins at CPU 0, without `last` it ends at `highest`.
    ///
    /// # Errors
    /// For other texts, a range that runs backwards, and CPUs above 1023.
    pub fn from_range(range: &str, highest: usize) -> Result<CpuSet, CpuSetError> {
        let wrong = || CpuSetError::Range { found: range.to_owned() };
        let number = |text: &str, absent: usize| match text {
            "" => Ok(absent),
            _ => text.parse::<usize>().map_err(|_| wrong()),
        };
        let (first, last) = range.split_once('-').ok_or_else(wrong)?;
        if first.is_empty() && last.is_empty() {
            return Err(wrong());
        }
        let (first, last) = (number(first, 0)?, number(last, highest)?);
        if last >= MAX_CPUS {
            return Err(CpuSetError::TooHigh { found: range.to_owned() });
        }
        if first > last { Err(wrong()) } else { Ok(CpuSet((first..=last).collect())) }
    }

    /// Numbers and ranges as the Linux kernel writes them: `0-3,8`.
    ///
    /// # Errors
    /// For other texts, and for CPUs above 1023.
    pub fn from_list(list: &str) -> Result<CpuSet, CpuSetError> {
        let parts = list.trim().split(',').filter(|part| !part.is_empty());
        let sets = parts.map(|part| match part.split_once('-') {
            Some((first, last)) if !first.is_empty() && !last.is_empty() => CpuSet::from_range(part, 0),
            _ => CpuSet::from_range(&format!("{part}-{part}"), 0),
        });
        sets.collect::<Result<Vec<_>, _>>().map(|sets| sets.into_iter().flat_map(|set| set.0).collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `cpu` is one of them.
    pub fn contains(&self, cpu: usize) -> bool {
        self.0.contains(&cpu)
    }

    /// The CPUs, in rising order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().copied()
    }

    /// Those that are in `other` too.
    pub fn intersection(&self, other: &CpuSet) -> CpuSet {
        CpuSet(&self.0 & &other.0)
    }

    /// Those that are not in `other`.
    pub fn difference(&self, other: &CpuSet) -> CpuSet {
        CpuSet(&self.0 - &other.0)
    }

    /// Those that are in one of both.
    pub fn union(&self, other: &CpuSet) -> CpuSet {
        CpuSet(&self.0 | &other.0)
    }
}

impl FromIterator<usize> for CpuSet {
    fn from_iter<I: IntoIterator<Item = usize>>(cpus: I) -> CpuSet {
        CpuSet(cpus.into_iter().collect())
    }
}

/// As the Linux kernel writes it: `0-3,8`.
impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut comma = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while cpus.next_if(|cpu| *cpu == last + 1).is_some() {
                last += 1;
            }
            match last {
                _ if last == first => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(cpus: &[usize]) -> CpuSet {
        cpus.iter().copied().collect()
    }

    #[test]
    fn masks_are_hexadecimal_from_the_lowest_bit() {
        for (mask, cpus) in [
            ("0xf", &[0, 1, 2, 3][..]),
            ("F0", &[4, 5, 6, 7]),
            ("0X5", &[0, 2]),
            ("0x10000000000000001", &[0, 64]),
            ("0", &[]),
            ("0x0", &[]),
        ] {
            assert_eq!(CpuSet::from_mask(mask).unwrap(), set(cpus), "{mask}");
        }
        for wrong in ["", "0x", "0xg", "-1", "1,2", "0x-1", "é"] {
            assert_eq!(CpuSet::from_mask(wrong), Err(CpuSetError::Mask { found: wrong.to_owned() }));
        }
        let far = format!("1{}", "0".repeat(MAX_CPUS / 4));
        assert_eq!(CpuSet::from_mask(&far), Err(CpuSetError::TooHigh { found: far }));
        assert_eq!(CpuSet::from_mask(&format!("8{}", "0".repeat(MAX_CPUS / 4 - 1))).unwrap(), set(&[1023]));
        assert_eq!(CpuSet::from_mask(&format!("{}3", "0".repeat(2000))).unwrap(), set(&[0, 1]));
    }

    #[test]
    fn ranges_may_be_open_at_one_end() {
        for (range, cpus) in [("0-3", &[0, 1, 2, 3][..]), ("2-2", &[2]), ("-1", &[0, 1]), ("5-", &[5, 6, 7])]
        {
            assert_eq!(CpuSet::from_range(range, 7).unwrap(), set(cpus), "{range}");
        }
        for wrong in ["", "-", "3", "3-1", "8-", "a-b", "0-1-2", "0 - 1", "0x0-0x1", "0-99999999999999999999"]
        {
            assert_eq!(CpuSet::from_range(wrong, 7), Err(CpuSetError::Range { found: wrong.to_owned() }));
        }
        assert_eq!(CpuSet::from_range("0-1024", 7), Err(CpuSetError::TooHigh { found: "0-1024".to_owned() }));
    }

    #[test]
    fn lists_are_written_as_they_are_read() {
        for (list, cpus) in [("0-3,8\n", &[0, 1, 2, 3, 8][..]), ("7", &[7]), ("", &[]), ("0,2-3", &[0, 2, 3])]
        {
            assert_eq!(CpuSet::from_list(list).unwrap(), set(cpus), "{list}");
            assert_eq!(set(cpus).to_string(), list.trim());
        }
        assert!(CpuSet::from_list("0-").is_err() && CpuSet::from_list("x").is_err());
    }
}
