//! A guest's memory, as the front-end shares it.
//!
//! Its content changes under us at any time, so nothing here is ever borrowed: octets are copied in or out, and words
//! that order other accesses are read and written atomically. Every access names an address of the guest and is held
//! against the regions.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory, VolatileSlice};

use crate::guard::Guard;

/// Regions of one guest; QEMU has 8 of its own and what is plugged in later.
pub const MAX_REGIONS: usize = 64;

/// Octets by a guest's addresses. What lies outside is neither read nor written.
pub trait Memory {
    /// False when not all of it is there.
    #[must_use]
    fn read(&self, address: u64, into: &mut [u8]) -> bool;
    /// False when not all of it is there.
    #[must_use]
    fn write(&self, address: u64, from: &[u8]) -> bool;
    /// A word that is read before everything read later.
    fn load(&self, address: u64) -> Option<u16>;
    /// A word that is written after everything written before.
    #[must_use]
    fn store(&self, address: u64, value: u16) -> bool;
}

/// What the front-end says of one region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The guest's address.
    pub guest: u64,
    pub size: u64,
    /// Address in the front-end's process; rings are named by it.
    pub user: u64,
    /// Where the region begins in its file.
    pub offset: u64,
}

/// A mapping that faults at nobody: see [`Guard`].
#[derive(Debug)]
struct Mapping {
    /// Before the mapping, so that it ends first.
    guard: Option<Guard>,
    memory: MmapRegion,
}

#[derive(Clone, Debug)]
struct Region {
    place: Place,
    mapping: Arc<Mapping>,
    file: Option<Arc<OwnedFd>>,
}

/// All regions of a guest, the largest first: that is where nearly all addresses are.
#[derive(Clone, Debug, Default)]
pub struct Regions(Vec<Region>);

impl Regions {
    /// Maps one region more.
    ///
    /// # Errors
    /// A region that overlaps another, does not lie in its file, or cannot be mapped.
    pub fn add(&mut self, place: Place, file: OwnedFd) -> io::Result<()> {
        let refused =
            |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("region {place:x?}: {why}"));
        self.check(place).map_err(refused)?;
        let (end, overflow) = place.offset.overflowing_add(place.size);
        let found = rustix::fs::fstat(&file)?;
        if overflow || u64::try_from(found.st_size).unwrap_or(0) < end {
            return Err(refused("it does not lie in its file"));
        }
        // From the file's first octet and in whole pages of its kind: places in hugetlbfs files need not begin at one.
        let page = usize::try_from(found.st_blksize).unwrap_or(1).max(4096);
        let length = usize::try_from(end).ok().and_then(|end| end.checked_next_multiple_of(page));
        let length = length.ok_or_else(|| refused("it is too large"))?;
        let file = Arc::new(file);
        let mapped = File::from(file.try_clone()?);
        let memory = MmapRegionBuilder::new(length)
            .with_file_offset(FileOffset::new(mapped, 0))
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_NORESERVE | libc::MAP_SHARED)
            .build();
        let memory = memory.map_err(|error| refused(&error.to_string()))?;
        let guard =
            Guard::new(memory.as_ptr() as usize, length).ok_or_else(|| refused("too many are mapped"))?;
        self.insert(Region {
            place,
            mapping: Arc::new(Mapping { guard: Some(guard), memory }),
            file: Some(file),
        });
        Ok(())
    }

    /// Memory of this process at address 0, for drivers in it.
    ///
    /// # Errors
    /// The system's.
    pub fn anonymous(size: usize) -> io::Result<Self> {
        let memory = MmapRegion::new(size).map_err(io::Error::other)?;
        let place = Place { size: size as u64, ..Place::default() };
        let mapping = Arc::new(Mapping { guard: None, memory });
        Ok(Self(vec![Region { place, mapping, file: None }]))
    }

    fn check(&self, place: Place) -> Result<(), &'static str> {
        if self.0.len() >= MAX_REGIONS {
            return Err("there are too many");
        }
        let ends = [place.guest.checked_add(place.size), place.user.checked_add(place.size)];
        if place.size == 0 || ends.contains(&None) {
            return Err("it is empty or too large");
        }
        let apart = |(a, b): (u64, u64), size: u64| a.abs_diff(b) >= if a < b { place.size } else { size };
        let clash = |other: &Place| {
            !apart((place.guest, other.guest), other.size) || !apart((place.user, other.user), other.size)
        };
        if self.0.iter().any(|region| clash(&region.place)) { Err("it overlaps another") } else { Ok(()) }
    }

    fn insert(&mut self, region: Region) {
        self.0.push(region);
        self.0.sort_by_key(|region| std::cmp::Reverse(region.place.size));
    }

    /// Takes one region away; false when there is none such.
    pub fn remove(&mut self, guest: u64, user: u64, size: u64) -> bool {
        let count = self.0.len();
        self.0.retain(|Region { place, .. }| (place.guest, place.user, place.size) != (guest, user, size));
        self.0.len() < count
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What [`Self::add`] was given, to map the same again elsewhere.
    pub fn parts(&self) -> impl Iterator<Item = (Place, Arc<OwnedFd>)> {
        self.0.iter().filter_map(|region| Some((region.place, region.file.clone()?)))
    }

    /// The guest's address of one of the front-end's.
    #[must_use]
    pub fn of_user(&self, user: u64) -> Option<u64> {
        let inside = |place: &Place| user.checked_sub(place.user).filter(|offset| *offset < place.size);
        self.0.iter().find_map(|region| Some(region.place.guest + inside(&region.place)?))
    }

    /// Whether a stretch lies in one region.
    #[must_use]
    pub fn holds(&self, address: u64, length: usize) -> bool {
        self.slice(address, length).is_some()
    }

    /// A file has become shorter than a region: what the guest has there is lost.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.0.iter().any(|region| region.mapping.guard.as_ref().is_some_and(Guard::is_hit))
    }

    #[inline]
    fn slice(&self, address: u64, length: usize) -> Option<VolatileSlice<'_>> {
        for Region { place, mapping, .. } in &self.0 {
            let offset = address.wrapping_sub(place.guest);
            if offset < place.size {
                if length as u64 > place.size - offset {
                    return None;
                }
                let start = usize::try_from(place.offset.checked_add(offset)?).ok()?;
                return mapping.memory.get_slice(start, length).ok();
            }
        }
        None
    }
}

impl Memory for Regions {
    #[inline]
    fn read(&self, address: u64, into: &mut [u8]) -> bool {
        self.slice(address, into.len()).is_some_and(|slice| slice.copy_to(into) == into.len())
    }

    #[inline]
    fn write(&self, address: u64, from: &[u8]) -> bool {
        self.slice(address, from.len()).map(|slice| slice.copy_from(from)).is_some()
    }

    #[inline]
    fn load(&self, address: u64) -> Option<u16> {
        self.slice(address, 2)?.load::<u16>(0, Ordering::Acquire).ok().map(u16::from_le)
    }

    #[inline]
    fn store(&self, address: u64, value: u16) -> bool {
        self.slice(address, 2).is_some_and(|slice| slice.store(value.to_le(), 0, Ordering::Release).is_ok())
    }
}

impl<M: Memory> Memory for Arc<M> {
    #[inline]
    fn read(&self, address: u64, into: &mut [u8]) -> bool {
        (**self).read(address, into)
    }

    #[inline]
    fn write(&self, address: u64, from: &[u8]) -> bool {
        (**self).write(address, from)
    }

    #[inline]
    fn load(&self, address: u64) -> Option<u16> {
        (**self).load(address)
    }

    #[inline]
    fn store(&self, address: u64, value: u16) -> bool {
        (**self).store(address, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    fn file(size: u64) -> OwnedFd {
        let file = memfd_create("guest", MemfdFlags::CLOEXEC).expect("memfd");
        ftruncate(&file, size).expect("size");
        file
    }

    fn place(guest: u64, size: u64, user: u64, offset: u64) -> Place {
        Place { guest, size, user, offset }
    }

    #[test]
    fn a_region_is_reached_by_its_addresses_and_no_octet_beside_it() {
        let shared = file(0x5000);
        let mut regions = Regions::default();
        regions
            .add(place(0x10_0000, 0x2000, 0x7000_0000, 0x1000), shared.try_clone().expect("fd"))
            .expect("map");
        assert!(regions.write(0x10_0000, b"begin") && regions.write(0x10_1ffd, b"end"));
        let mut octets = [0; 5];
        rustix::io::pread(&shared, &mut octets, 0x1000).expect("read");
        assert_eq!(&octets, b"begin");
        assert!(!regions.write(0x10_1ffe, b"end") && !regions.write(0xf_ffff, b"begin"));
        assert!(!regions.read(u64::MAX, &mut octets) && regions.load(0x10_2000).is_none());
        assert!(regions.store(0x10_0010, 7) && regions.load(0x10_0010) == Some(7));
        assert!(regions.load(0x10_0011).is_none(), "not aligned");
        assert_eq!(regions.of_user(0x7000_1fff), Some(0x10_1fff));
        assert_eq!(regions.of_user(0x7000_2000), None);
    }

    #[test]
    fn regions_that_lie_are_refused() {
        let mut regions = Regions::default();
        regions.add(place(0x10_0000, 0x2000, 0x7000_0000, 0), file(0x2000)).expect("map");
        for wrong in [
            place(0x10_1000, 0x2000, 0x8000_0000, 0),
            place(0xf_f000, 0x2000, 0x8000_0000, 0),
            place(0x20_0000, 0x2000, 0x7000_1fff, 0),
            place(0x20_0000, 0, 0x8000_0000, 0),
            place(0x20_0000, 0x2001, 0x8000_0000, 0),
            place(0x20_0000, 0x2000, 0x8000_0000, 1),
            place(0x20_0000, 0x2000, 0x8000_0000, u64::MAX),
            place(u64::MAX, 0x2000, 0x8000_0000, 0),
            place(0x20_0000, u64::MAX, 0, 0),
        ] {
            assert!(regions.add(wrong, file(0x2000)).is_err(), "{wrong:x?}");
        }
        assert!(!regions.remove(0x10_0000, 0x7000_0000, 0x1000));
        assert!(regions.remove(0x10_0000, 0x7000_0000, 0x2000) && regions.is_empty());
    }

    #[test]
    fn a_file_that_is_cut_reads_as_zeroes_and_is_noticed() {
        let (shared, other) = (file(0x4000), file(0x1000));
        let mut regions = Regions::default();
        regions.add(place(0, 0x4000, 0, 0), shared.try_clone().expect("fd")).expect("map");
        let mut bystander = Regions::default();
        bystander.add(place(0, 0x1000, 0, 0), other).expect("map");
        assert!(regions.write(0x3000, b"lost") && bystander.write(0, b"kept"));
        ftruncate(&shared, 0x1000).expect("cut");
        let mut octets = [1; 4];
        assert!(!regions.is_cut());
        assert!(regions.read(0x3000, &mut octets) && octets == [0; 4]);
        assert!(regions.is_cut() && !bystander.is_cut());
        assert!(bystander.read(0, &mut octets) && &octets == b"kept");
    }
}
