use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::directory::Directory;
use super::levels::Own;
use super::reader::{CgroupReader, Directories};
use crate::sample::cgroup::{CgroupLine, CgroupLines};
use crate::sample::mountinfo::unescape;

/// A search for a container's directory gives up after this many directories.
const MAX_SEARCHED: usize = 20_000;

/// The mounted cgroup hierarchies.
#[derive(Debug, Default)]
pub struct Hierarchies {
    mounts: Vec<Mount>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Mount {
    /// Where it is mounted.
    point: PathBuf,
    /// The mounted part of the hierarchy, as a path in the reader's cgroup namespace.
    root: String,
    /// v1 controllers; `None` for the v2 hierarchy.
    controllers: Option<String>,
    /// Where the ancestors of the reader's cgroup namespace root are mounted, by the number of levels up; only those found
    /// so far.
    above: RefCell<Vec<(usize, PathBuf)>>,
}

impl Mount {
    fn holds(&self, line: CgroupLine<'_>) -> bool {
        match &self.controllers {
            None => line.is_unified(),
            Some(controllers) => {
                !line.is_unified() && controllers.split(',').any(|one| line.has_controller(one))
            }
        }
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.as_ref().is_some_and(|all| all.split(',').any(|one| one == controller))
    }
}

impl Hierarchies {
    /// The hierarchies below `cgroup_path`; without one, the mounted ones.
    pub fn find(proc_path: &Path, cgroup_path: Option<&Path>) -> Self {
        cgroup_path.map_or_else(|| Self::mounted(proc_path), Self::below)
    }

    /// The hierarchies in the collector's own `mountinfo`; none if it cannot be read.
    pub fn mounted(proc_path: &Path) -> Self {
        Self::from_mountinfo(&std::fs::read(proc_path.join("self/mountinfo")).unwrap_or_default())
    }

    /// The hierarchies that a `mountinfo` lists.
    pub fn from_mountinfo(content: &[u8]) -> Self {
        let text = String::from_utf8_lossy(content);
        let mounts = text.lines().filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut before = before.split(' ').skip(3);
            let (root, point) = (before.next()?, before.next()?);
            let mut after = after.split(' ');
            let (kind, options) = (after.next()?, after.nth(1)?);
            let controllers = match kind {
                "cgroup2" => None,
                "cgroup" => Some(options.to_owned()),
                _ => return None,
            };
            let plain = |field: &str| String::from_utf8_lossy(&unescape(field.as_bytes())).into_owned();
            Some(Mount {
                point: plain(point).into(),
                root: plain(root),
                controllers,
                above: RefCell::default(),
            })
        });
        Self { mounts: mounts.collect() }
    }

    /// The hierarchies below a directory: a v2 hierarchy, or the usual parent of v1 hierarchies and `unified`.
    pub fn below(path: &Path) -> Self {
        let mount = |point: PathBuf, controllers| Mount {
            point,
            root: "/".to_owned(),
            controllers,
            ..Mount::default()
        };
        if is_v2(path) {
            return Self { mounts: vec![mount(path.to_owned(), None)] };
        }
        let directories =
            std::fs::read_dir(path).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
        let mounts = directories.map(|entry| {
            let controllers =
                (!is_v2(&entry.path())).then(|| entry.file_name().to_string_lossy().into_owned());
            mount(entry.path(), controllers)
        });
        Self { mounts: mounts.collect() }
    }

    /// The root inodes of the v2 hierarchy and of the v1 hierarchy that accounts CPU time. The kernel identifies the
    /// cgroups by them. 0 if the hierarchy is not mounted or only a part of it is.
    pub fn root_ids(&self) -> (u64, u64) {
        let inode = |wanted: &dyn Fn(&Mount) -> bool| {
            let mount = self.mounts.iter().find(|mount| mount.root == "/" && wanted(mount));
            mount.and_then(|mount| std::fs::metadata(&mount.point).ok()).map_or(0, |meta| meta.ino())
        };
        (inode(&|mount| mount.controllers.is_none()), inode(&|mount| mount.has("cpuacct")))
    }

    /// Whether nothing is mounted.
    pub fn is_empty(&self) -> bool {
        self.mounts.is_empty()
    }

    /// A reader of the container with this id, from the cgroups of one of its processes.
    pub fn container(&self, lines: CgroupLines<'_>, id: &str) -> Option<CgroupReader> {
        let directories = self.directories(Own::Container, |mount| {
            let line = lines.iter().find(|line| mount.holds(*line))?;
            // Cut off everything below the container: dind's children, `/init`.
            let at = line.path.find(id)?;
            let end = line.path[at..].find('/').map_or(line.path.len(), |length| at + length);
            let path = &line.path[..end];
            mount.directory(path).or_else(|| mount.directory_above(path)).or_else(|| {
                let found = search(&mount.point, id)?;
                mount.learn(path, &found);
                Some(found)
            })
        });
        CgroupReader::open(directories)
    }

    /// A reader of exactly this cgroup.
    pub fn cgroup(&self, lines: CgroupLines<'_>, path: &str) -> Option<CgroupReader> {
        let directories = self.directories(Own::Unit, |mount| {
            let line = lines.iter().find(|line| mount.holds(*line) && line.path.starts_with(path))?;
            mount.directory(&line.path[..path.len()])
        });
        CgroupReader::open(directories)
    }

    /// A reader of the mounted root cgroup, unless it is the machine's. In a container with its own cgroup namespace, this
    /// is the container's cgroup.
    pub fn own(&self) -> Option<CgroupReader> {
        // The machine's root cgroup has no type.
        let directories = self.directories(Own::Exact, |mount| {
            mount.point.join("cgroup.type").exists().then(|| mount.point.clone())
        });
        CgroupReader::open(directories)
    }

    fn directories(&self, own: Own, find: impl Fn(&Mount) -> Option<PathBuf>) -> Directories {
        let find = |mount: &Mount| find(mount).map(Directory::Mounted);
        let controller = |name: &str| self.mounts.iter().filter(|mount| mount.has(name)).find_map(&find);
        Directories {
            unified: self.mounts.iter().filter(|mount| mount.controllers.is_none()).find_map(&find),
            cpuacct: controller("cpuacct"),
            cpu: controller("cpu"),
            memory: controller("memory"),
            blkio: controller("blkio"),
            mount_points: self.mounts.iter().map(|mount| mount.point.clone()).collect(),
            own,
        }
    }
}

impl Mount {
    /// The directory of a cgroup, if it is mounted. It is the mount point itself if a runtime mounted the container's own
    /// cgroup there instead of the machine's root.
    fn directory(&self, path: &str) -> Option<PathBuf> {
        if path.split('/').any(|segment| segment == "..") {
            return None;
        }
        let below = path.strip_prefix(self.root.trim_end_matches('/'))?.trim_start_matches('/');
        let directory = self.point.join(below);
        let is_machine = below.is_empty() && self.root == "/";
        (!is_machine && directory.is_dir()).then_some(directory)
    }
}

impl Mount {
    /// The directory of a cgroup whose path goes up, if `learn` has recorded where those levels lead.
    fn directory_above(&self, path: &str) -> Option<PathBuf> {
        let (up, below) = levels_up(path);
        let above = self.above.borrow();
        let (_, base) = above.iter().find(|(levels, _)| *levels == up)?;
        Some(base.join(below)).filter(|directory| directory.is_dir())
    }

    /// Records where a path that was found by its last name leads: paths that go up as many levels begin there, too.
    fn learn(&self, path: &str, found: &Path) {
        let (up, below) = levels_up(path);
        if up > 0
            && found.ends_with(below)
            && let Some(base) = found.ancestors().nth(Path::new(below).components().count())
        {
            let mut above = self.above.borrow_mut();
            above.retain(|(levels, _)| *levels != up);
            above.push((up, base.to_owned()));
        }
    }
}

/// How many levels a path goes up, and the rest of it.
fn levels_up(path: &str) -> (usize, &str) {
    let mut rest = path.trim_start_matches('/');
    let mut up = 0;
    while let Some(below) = rest.strip_prefix("../") {
        (up, rest) = (up + 1, below);
    }
    (up, rest)
}

fn is_v2(path: &Path) -> bool {
    path.join("cgroup.controllers").exists()
}

/// Searches for a directory with the id in its name: the path that a process shows can be relative to another namespace's
/// root.
fn search(root: &Path, id: &str) -> Option<PathBuf> {
    let mut queue = VecDeque::from([root.to_owned()]);
    for _ in 0..MAX_SEARCHED {
        let directory = queue.pop_front()?;
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.contains(id) && !name.contains("conmon-") {
                return Some(entry.path());
            }
            queue.push_back(entry.path());
        }
    }
    None
}
