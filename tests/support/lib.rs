//! Support for tests of the shipped programs: where they are, how they are started and spoken to.

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
