//! Support for tests of the shipped programs: finding them, starting them and talking to them.

pub mod bare;
pub mod certificate;
pub mod cgroup;
pub mod day;
pub mod disk;
pub mod faults;
pub mod fill;
pub mod histories;
pub mod http;
pub mod jail;
pub mod privileges;
pub mod program;
pub mod receiver;
pub mod replay;
pub mod scene;
pub mod stub;
