//! A process held by a descriptor (`pidfd_open(2)`), which reports its end and exit status even if it is not a child.

use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::ioctl::{self, Updater, opcode};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::pid_stat::PidStat;
use super::process_table::{ProcessKey, has_own_pids};

/// `PIDFD_INFO_EXIT` of `include/uapi/linux/pidfd.h`: requests the exit code, or marks it as filled in.
const INFO_EXIT: u64 = 1 << 3;
/// `PIDFD_GET_INFO`, with the first version of its structure.
const GET_INFO: ioctl::Opcode = opcode::read_write::<Info>(0xFF, 11);

/// `struct pidfd_info` of Linux 6.13; the kernel fills as much as the size allows.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Info {
    mask: u64,
    cgroup_id: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// How a process ended, as in `wait(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this status.
    Exited(u8),
    /// This signal killed it.
    Killed(u8),
}

impl Ending {
    fn from_status(status: i32) -> Self {
        match status & 0x7F {
            0 => Self::Exited((status >> 8) as u8),
            signal => Self::Killed(signal as u8),
        }
    }
}

/// One process, even if its PID is reused later.
#[derive(Debug)]
pub struct HeldProcess {
    fd: OwnedFd,
}

impl HeldProcess {
    /// Holds a process. Fails if it is gone, if the proc tree shows another PID namespace, or if the kernel (before 5.3) or
    /// a system call filter has no such call.
    pub fn hold(proc_path: &Path, key: ProcessKey) -> Result<Self, Errno> {
        let pid = Pid::from_raw(key.pid.cast_signed()).ok_or(Errno::SRCH)?;
        if !has_own_pids(proc_path) {
            return Err(Errno::NOTSUP);
        }
        let fd = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        // Its PID may have been reused since, by a process that started later.
        let stat = std::fs::read(proc_path.join(format!("{}/stat", key.pid))).map_err(|_| Errno::SRCH)?;
        let same = PidStat::parse(&stat).is_ok_and(|stat| stat.start_ticks == key.start_ticks);
        if same { Ok(Self { fd }) } else { Err(Errno::SRCH) }
    }

    /// Whether all of its threads have ended.
    pub fn has_ended(&self) -> bool {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&zero)).is_ok_and(|ready| ready > 0)
    }

    /// How it ended; `None` while it lives, and on Linux before 6.15, which does not report it.
    pub fn ending(&self) -> Option<Ending> {
        let mut info = Info { mask: INFO_EXIT, ..Info::default() };
        // SAFETY: the kernel writes at most the size of the structure that is part of the opcode.
        let asked = unsafe { ioctl::ioctl(&self.fd, Updater::<GET_INFO, Info>::new(&mut info)) };
        (asked.is_ok() && info.mask & INFO_EXIT != 0).then(|| Ending::from_status(info.exit_code))
    }
}

impl AsFd for HeldProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    fn key(pid: u32) -> ProcessKey {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap();
        ProcessKey { pid, start_ticks: PidStat::parse(&stat).unwrap().start_ticks }
    }

    #[test]
    fn the_end_of_another_process_and_how_it_came() {
        for (script, code, signal) in [("exit 7", Some(7), None), ("kill -KILL $$", None, Some(9))] {
            let mut child = Command::new("sh");
            child.args(["-c", &format!("read x; {script}")]).stdin(std::process::Stdio::piped());
            let mut child = child.spawn().unwrap();
            let held = HeldProcess::hold(Path::new("/proc"), key(child.id())).unwrap();
            assert_eq!(held.ending(), None);
            drop(child.stdin.take());
            let mut polled = [PollFd::new(&held, PollFlags::IN)];
            assert_eq!(poll(&mut polled, None).unwrap(), 1);
            let status = child.wait().unwrap();
            assert_eq!((status.code(), status.signal()), (code, signal));
            // Kernels before 6.15 do not report it.
            if let Some(ending) = held.ending() {
                let expected = code.map_or(Ending::Killed(9), |code| Ending::Exited(code as u8));
                assert_eq!(ending, expected);
            }
        }
    }

    #[test]
    fn a_number_that_was_given_to_another_process_is_refused() {
        let own = key(std::process::id());
        let earlier = ProcessKey { start_ticks: own.start_ticks - 1, ..own };
        assert_eq!(HeldProcess::hold(Path::new("/proc"), earlier).unwrap_err(), Errno::SRCH);
    }
}
