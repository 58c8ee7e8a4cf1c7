//! BTF, the kernel's own type information (`Documentation/bpf/btf.rst`), as far as offsets of fields need it.
//!
//! The crate that reads all of BTF is under the LGPL, which rules it out for a statically linked program.

mod reduce;

use std::ffi::CStr;

use rustc_hash::FxHashMap;

const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: usize = 24;

const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FWD: u32 = 7;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Limit for types inside types; the kernel's are not nested deeper.
const MAX_NESTING: usize = 16;

/// Why a blob is not BTF.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BtfError {
    /// It does not begin with the magic number in this machine's byte order.
    #[error("not BTF in this machine's byte order")]
    Magic,
    /// It ends in the middle of something, or points outside itself.
    #[error("BTF that is cut short or broken at byte {0}")]
    Broken(usize),
    /// A newer kind of type, of unknown length.
    #[error("BTF with the unknown kind {0}")]
    Kind(u32),
}

/// The types of a kernel.
#[derive(Debug)]
pub struct Btf<'a> {
    bytes: &'a [u8],
    strings: &'a [u8],
    /// Position of each type; ids begin with 1.
    types: Vec<u32>,
    structs: FxHashMap<&'a [u8], u32>,
}

/// One type.
#[derive(Debug, Clone, Copy)]
struct Type {
    at: usize,
    kind: u32,
    length: usize,
    bit_fields: bool,
    /// The type that this one refers to, or its size in bytes.
    refers_or_size: u32,
}

impl<'a> Btf<'a> {
    /// Parses `/sys/kernel/btf/vmlinux`, or an excerpt of it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        if bytes.get(..2) != Some(&MAGIC.to_ne_bytes()) {
            return Err(BtfError::Magic);
        }
        let word = |at| word(bytes, at).ok_or(BtfError::Broken(at));
        let header = word(4)? as usize;
        if header < HEADER_LEN {
            return Err(BtfError::Broken(4));
        }
        let section = |offset, length| {
            let start = header.checked_add(word(offset)? as usize).ok_or(BtfError::Broken(offset))?;
            let end = start.checked_add(word(length)? as usize).ok_or(BtfError::Broken(length))?;
            if end > bytes.len() { Err(BtfError::Broken(length)) } else { Ok((start, end)) }
        };
        let (mut at, end) = section(8, 12)?;
        let (strings, strings_end) = section(16, 20)?;
        let mut btf = Self {
            bytes,
            strings: &bytes[strings..strings_end],
            types: vec![0],
            structs: FxHashMap::default(),
        };
        while at < end {
            let found = btf.type_at(at).ok_or(BtfError::Broken(at))?;
            let id = btf.types.len() as u32;
            if matches!(found.kind, KIND_STRUCT | KIND_UNION)
                && let Some(name) = btf.string(at)
                && !name.is_empty()
            {
                btf.structs.entry(name).or_insert(id);
            }
            btf.types.push(at as u32);
            at += found.len().ok_or(BtfError::Kind(found.kind))?;
        }
        Ok(btf)
    }

    /// The offset in bytes of a field such as `ns.inum` in a struct.
    pub fn offset(&self, of: &str, field: &str) -> Option<u32> {
        let mut id = *self.structs.get(of.as_bytes())?;
        let mut bits = 0;
        for part in field.split('.') {
            let (offset, inner) = self.member(self.resolve(id)?, part.as_bytes(), 0)?;
            bits += offset;
            id = inner;
        }
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// Size in bytes of a struct.
    pub fn size(&self, of: &str) -> Option<u32> {
        Some(self.resolve(*self.structs.get(of.as_bytes())?)?.refers_or_size)
    }

    /// The value of a constant of an enum.
    pub fn enumerator(&self, of: &str, name: &str) -> Option<u32> {
        let found = self
            .types
            .iter()
            .skip(1)
            .filter_map(|&at| self.type_at(at as usize))
            .find(|found| found.kind == KIND_ENUM && self.string(found.at) == Some(of.as_bytes()))?;
        (0..found.length)
            .map(|index| found.at + 12 + 8 * index)
            .find_map(|at| (self.string(at)? == name.as_bytes()).then(|| word(self.bytes, at + 4))?)
    }

    /// Offset in bits and type of a member, including members of unnamed structs and unions.
    fn member(&self, of: Type, name: &[u8], nesting: usize) -> Option<(u32, u32)> {
        if !matches!(of.kind, KIND_STRUCT | KIND_UNION) || nesting > MAX_NESTING {
            return None;
        }
        (0..of.length).map(|index| of.at + 12 + 12 * index).find_map(|at| {
            let (id, offset) = (word(self.bytes, at + 4)?, word(self.bytes, at + 8)?);
            let offset = if of.bit_fields { offset & 0xff_ffff } else { offset };
            let found = self.string(at)?;
            if found == name {
                return Some((offset, id));
            }
            if !found.is_empty() {
                return None;
            }
            let (inner, id) = self.member(self.resolve(id)?, name, nesting + 1)?;
            Some((offset + inner, id))
        })
    }

    /// The type itself, without `typedef`, `const` and `volatile`.
    fn resolve(&self, id: u32) -> Option<Type> {
        let mut found = self.type_of(id)?;
        for _ in 0..MAX_NESTING {
            if !matches!(found.kind, KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_TYPE_TAG) {
                return Some(found);
            }
            found = self.type_of(found.refers_or_size)?;
        }
        None
    }

    fn type_of(&self, id: u32) -> Option<Type> {
        self.type_at(*self.types.get(id as usize).filter(|_| id > 0)? as usize)
    }

    fn type_at(&self, at: usize) -> Option<Type> {
        let info = word(self.bytes, at + 4)?;
        Some(Type {
            at,
            kind: info >> 24 & 0x1f,
            length: (info & 0xffff) as usize,
            bit_fields: info >> 31 == 1,
            refers_or_size: word(self.bytes, at + 8)?,
        })
    }

    /// The string whose offset is at `at`.
    fn string(&self, at: usize) -> Option<&'a [u8]> {
        let rest = self.strings.get(word(self.bytes, at)? as usize..)?;
        CStr::from_bytes_until_nul(rest).ok().map(CStr::to_bytes)
    }
}

impl Type {
    /// Its length in bytes.
    fn len(&self) -> Option<usize> {
        let more = match self.kind {
            KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
            KIND_ARRAY => 12,
            KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * self.length,
            KIND_ENUM | KIND_FUNC_PROTO => 8 * self.length,
            1..=KIND_ENUM64 => 0,
            _ => return None,
        };
        Some(12 + more)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct a { u32 x; struct { u32 y; } ; struct b in; }`, `struct b { u32 z:8 at bit 32 }`, `enum e { P = 7 }`.
    fn blob() -> Vec<u8> {
        let strings = b"\0a\0x\0y\0in\0b\0z\0e\0P\0";
        let name = |text: &str| {
            let wanted = format!("\0{text}\0");
            strings.windows(wanted.len()).position(|part| part == wanted.as_bytes()).unwrap() as u32 + 1
        };
        let info = |kind: u32, bit_fields: u32, length: u32| bit_fields << 31 | kind << 24 | length;
        let types = [
            vec![0, info(KIND_INT, 0, 0), 4, 32],
            vec![name("a"), info(KIND_STRUCT, 0, 3), 16, name("x"), 1, 0, 0, 3, 32, name("in"), 5, 64],
            vec![0, info(KIND_STRUCT, 0, 1), 4, name("y"), 1, 0],
            vec![name("b"), info(KIND_STRUCT, 1, 1), 8, name("z"), 1, 8 << 24 | 32],
            vec![0, info(KIND_CONST, 0, 0), 4],
            vec![name("e"), info(KIND_ENUM, 0, 1), 4, name("P"), 7],
        ];
        reduce::bytes(&types.concat(), strings)
    }

    #[test]
    fn fields_are_found_in_unnamed_and_inner_structs() {
        let blob = blob();
        let btf = Btf::parse(&blob).unwrap();
        assert_eq!(btf.offset("a", "x"), Some(0));
        assert_eq!(btf.offset("a", "y"), Some(4));
        assert_eq!(btf.offset("a", "in.z"), Some(12));
        assert_eq!((btf.size("a"), btf.size("b")), (Some(16), Some(8)));
        assert_eq!(btf.enumerator("e", "P"), Some(7));
        assert_eq!(
            (btf.offset("a", "q"), btf.offset("q", "x"), btf.enumerator("e", "Q")),
            (None, None, None)
        );
    }

    #[test]
    fn typedefs_keep_their_ids_among_types_that_are_left_out() {
        let name = |name: u32, kind: u32, length: u32| [name, kind << 24 | length, 4];
        let types = [
            [name(1, KIND_STRUCT, 1), [3, 1, 0]].concat(),
            name(3, KIND_TYPEDEF, 0).to_vec(),
            // The same name, but not a typedef.
            name(5, KIND_STRUCT, 0).to_vec(),
            name(5, KIND_TYPEDEF, 0).to_vec(),
            name(3, KIND_CONST, 0).to_vec(),
        ];
        let whole = reduce::bytes(&types.concat(), b"\0a\0b\0cc\0");
        let btf = Btf::parse(&whole).unwrap();
        let blob = btf.with_ids_of(&["cc", "b", "not there"]);
        let ids = Btf::parse(&blob).unwrap();
        let names: Vec<_> = (1..ids.types.len() as u32)
            .map(|id| ids.type_of(id).unwrap())
            .map(|found| (found.kind, ids.string(found.at).unwrap()))
            .collect();
        let (nothing, left_out) = (&b""[..], KIND_FWD);
        let expected = [
            (left_out, nothing),
            (KIND_TYPEDEF, b"b"),
            (left_out, nothing),
            (KIND_TYPEDEF, b"cc"),
            (left_out, nothing),
        ];
        assert_eq!(names, expected);
        // Types after the last of them are left out.
        let blob = btf.with_ids_of(&["b"]);
        assert_eq!(Btf::parse(&blob).unwrap().types.len(), 3);
    }

    #[test]
    fn broken_blobs_are_refused() {
        let whole = blob();
        assert_eq!(Btf::parse(b"no").unwrap_err(), BtfError::Magic);
        for length in 2..whole.len() {
            assert!(Btf::parse(&whole[..length]).is_err(), "{length} bytes");
        }
        let mut unknown = whole;
        unknown[24 + 7] = 20;
        assert_eq!(Btf::parse(&unknown).unwrap_err(), BtfError::Kind(20));
    }
}
