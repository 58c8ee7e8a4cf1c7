//! The few kernel types that matter here, as BTF of their own: some kilobytes instead of megabytes.

use std::collections::HashMap;

use super::{Btf, KIND_ENUM, KIND_FWD, KIND_STRUCT, KIND_TYPEDEF, KIND_UNION, MAGIC, Type};

impl Btf<'_> {
    /// BTF of these structs and enums, with the unnamed types inside them; every other type that they refer to is void.
    pub fn reduced(&self, structs: &[&str], enums: &[&str]) -> Vec<u8> {
        let mut reduced =
            Reduced { from: self, names: structs, ids: HashMap::new(), types: Vec::new(), strings: vec![0] };
        for name in structs {
            if let Some(&id) = self.structs.get(name.as_bytes()) {
                reduced.take(id);
            }
        }
        for id in 1..self.types.len() as u32 {
            let Some(found) = self.type_of(id) else { continue };
            let name = self.string(found.at).unwrap_or_default();
            if found.kind == KIND_ENUM && enums.iter().any(|one| one.as_bytes() == name) {
                reduced.take(id);
            }
        }
        reduced.bytes()
    }

    /// BTF in which these typedefs keep their ids, for callers that need only the ids: everything else with an id up to
    /// theirs is a declaration without a name.
    pub fn with_ids_of(&self, typedefs: &[&str]) -> Vec<u8> {
        let mut missing: Vec<&[u8]> = typedefs.iter().map(|name| name.as_bytes()).collect();
        let mut types = Vec::new();
        let mut strings = vec![0];
        for id in 1..self.types.len() as u32 {
            if missing.is_empty() {
                break;
            }
            let name = self.type_of(id).filter(|found| found.kind == KIND_TYPEDEF);
            let name = name.and_then(|found| self.string(found.at));
            let Some(index) = missing.iter().position(|one| Some(*one) == name) else {
                types.extend([0, KIND_FWD << 24, 0]);
                continue;
            };
            types.extend([strings.len() as u32, KIND_TYPEDEF << 24, 0]);
            strings.extend(missing.swap_remove(index));
            strings.push(0);
        }
        bytes(&types, &strings)
    }
}

struct Reduced<'a, 'b> {
    from: &'a Btf<'b>,
    names: &'a [&'a str],
    /// New ids by ids in the whole BTF.
    ids: HashMap<u32, u32>,
    types: Vec<Vec<u32>>,
    strings: Vec<u8>,
}

impl Reduced<'_, '_> {
    /// The new id of a type; 0 if it does not matter.
    fn take(&mut self, id: u32) -> u32 {
        if let Some(&here) = self.ids.get(&id) {
            return here;
        }
        let Some(found) = self.from.resolve(id) else { return 0 };
        let name = self.from.string(found.at).unwrap_or_default();
        let wanted = name.is_empty() || self.names.iter().any(|one| one.as_bytes() == name);
        match found.kind {
            KIND_STRUCT | KIND_UNION if wanted => {}
            KIND_ENUM => {}
            _ => return 0,
        }
        self.types.push(Vec::new());
        let here = self.types.len() as u32;
        self.ids.insert(id, here);
        let words = self.words(found);
        self.types[here as usize - 1] = words;
        here
    }

    fn words(&mut self, found: Type) -> Vec<u32> {
        let word = |at| super::word(self.from.bytes, at).unwrap_or(0);
        let (info, size) = (word(found.at + 4), word(found.at + 8));
        let length = if found.kind == KIND_ENUM { 2 } else { 3 };
        let members: Vec<_> = (0..found.length)
            .map(|index| found.at + 12 + 4 * length * index)
            .map(|at| (at, word(at + 4), word(at + 8)))
            .collect();
        let mut words = vec![self.name(found.at), info, size];
        for (at, second, third) in members {
            words.push(self.name(at));
            if found.kind == KIND_ENUM {
                words.push(second);
            } else {
                words.extend([self.take(second), third]);
            }
        }
        words
    }

    fn name(&mut self, at: usize) -> u32 {
        let name = self.from.string(at).unwrap_or_default();
        if name.is_empty() {
            return 0;
        }
        let offset = self.strings.len() as u32;
        self.strings.extend(name);
        self.strings.push(0);
        offset
    }

    fn bytes(self) -> Vec<u8> {
        bytes(&self.types.concat(), &self.strings)
    }
}

/// A header, the types and the strings.
pub(super) fn bytes(types: &[u32], strings: &[u8]) -> Vec<u8> {
    let length = size_of_val(types) as u32;
    let mut bytes = MAGIC.to_ne_bytes().to_vec();
    bytes.extend([1, 0]);
    for word in [super::HEADER_LEN as u32, 0, length, length, strings.len() as u32].iter().chain(types) {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(strings);
    bytes
}
