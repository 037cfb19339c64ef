//! How much CPU time the control groups of this process allow it (Linux).

/// The least of the quotas of this process's control groups, in CPUs; `None` without one, or where the system has none.
pub fn cpus() -> Option<f64> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return linux::cpus(std::path::Path::new("/"));
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    None
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use std::ffi::OsString;
    use std::fs;
    use std::os::unix::ffi::OsStringExt;
    use std::path::{Component, Path, PathBuf};

    /// The least quota in a system whose files are below `root`. Controllers of version 1 and the tree of version 2 may both be there; a quota
    /// binds all groups below the one that has it.
    pub fn cpus(root: &Path) -> Option<f64> {
        let groups = fs::read(root.join("proc/self/cgroup")).ok()?;
        let mounts = fs::read(root.join("proc/self/mountinfo")).ok()?;
        let mounts: Vec<Mount> = mounts.split(|byte| *byte == b'\n').filter_map(Mount::read).collect();
        let mut least: Option<f64> = None;
        for line in groups.split(|byte| *byte == b'\n') {
            // id:controllers:path
            let mut parts = line.splitn(3, |byte| *byte == b':');
            let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let version = match controllers {
                [] => Version::Two,
                _ if has(controllers, b"cpu") => Version::One,
                _ => continue,
            };
            let path = path_of(path.to_vec());
            for mount in mounts.iter().filter(|mount| mount.version == version) {
                for folder in mount.folders(&path) {
                    let folder = root.join(folder.strip_prefix("/").unwrap_or(&folder));
                    let quota = version.quota(&folder);
                    least = quota.into_iter().chain(least).min_by(f64::total_cmp);
                }
            }
        }
        least
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Version {
        One,
        Two,
    }

    impl Version {
        /// The quota of one group.
        fn quota(self, folder: &Path) -> Option<f64> {
            let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
            let (quota, period) = match self {
                Version::One => (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?),
                Version::Two => {
                    let max = read("cpu.max")?;
                    let (quota, period) = max.trim().split_once(' ')?;
                    (quota.to_owned(), period.to_owned())
                }
            };
            // `max` and -1 are no quota.
            let quota: u64 = quota.trim().parse().ok()?;
            let period: u64 = period.trim().parse().ok()?;
            (period > 0).then(|| quota as f64 / period as f64)
        }
    }

    /// A hierarchy of groups that is mounted.
    struct Mount {
        version: Version,
        /// The group that is seen at `point`.
        group: PathBuf,
        point: PathBuf,
    }

    impl Mount {
        /// A line of `mountinfo`: `36 35 98:0 GROUP POINT options optional… - TYPE source options`.
        fn read(line: &[u8]) -> Option<Mount> {
            let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
            let dash = fields.iter().position(|field| *field == b"-")?;
            let version = match *fields.get(dash + 1)? {
                b"cgroup2" => Version::Two,
                b"cgroup" if has(fields.get(dash + 3)?, b"cpu") => Version::One,
                _ => return None,
            };
            Some(Mount {
                version,
                group: path_of(unescape(fields.get(3)?)),
                point: path_of(unescape(fields.get(4)?)),
            })
        }

        /// The folders of group `path` and all groups above it, as far as they are seen here.
        fn folders(&self, path: &Path) -> Vec<PathBuf> {
            // In a container, `path` may be the host's, or lie outside of what is seen: then the container's own group is at `point`.
            let below = path.strip_prefix(&self.group).ok();
            let below = below.filter(|below| below.components().all(|c| matches!(c, Component::Normal(_))));
            let folder = self.point.join(below.unwrap_or(Path::new("")));
            folder
                .ancestors()
                .take_while(|folder| folder.starts_with(&self.point))
                .map(Path::to_owned)
                .collect()
        }
    }

    /// Whether a list with commas has this word.
    fn has(list: &[u8], word: &[u8]) -> bool {
        list.split(|byte| *byte == b',').any(|entry| entry == word)
    }

    /// Spaces and the like are `\040` in `mountinfo`.
    fn unescape(field: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(field.len());
        let mut rest = field;
        while let Some((first, after)) = rest.split_first() {
            let octal = after
                .get(..3)
                .filter(|_| *first == b'\\')
                .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
            out.push(octal.unwrap_or(*first));
            rest = if octal.is_some() { &after[3..] } else { after };
        }
        out
    }

    fn path_of(bytes: Vec<u8>) -> PathBuf {
        PathBuf::from(OsString::from_vec(bytes))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// A system with these files.
        fn quota(files: &[(&str, &str)]) -> Option<f64> {
            let root = tempfile::tempdir().unwrap();
            for (file, content) in files {
                let path = root.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, format!("{content}\n")).unwrap();
            }
            cpus(root.path())
        }

        const TWO: &str = "proc/self/mountinfo";
        const TREE: &str = "30 24 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";

        #[test]
        fn the_least_quota_of_nested_groups_counts() {
            let system = |service: &'static str, slice: &'static str| {
                quota(&[
                    ("proc/self/cgroup", "0::/system.slice/bise.service/workers"),
                    (TWO, TREE),
                    ("sys/fs/cgroup/system.slice/bise.service/workers/cpu.max", "max 100000"),
                    ("sys/fs/cgroup/system.slice/bise.service/cpu.max", service),
                    ("sys/fs/cgroup/system.slice/cpu.max", slice),
                ])
            };
            assert_eq!(system("max 100000", "max 100000"), None);
            assert_eq!(system("150000 100000", "max 100000"), Some(1.5));
            assert_eq!(system("150000 100000", "400000 100000"), Some(1.5));
            assert_eq!(system("400000 100000", "20000 10000"), Some(2.0));
        }

        #[test]
        fn version_1_has_its_own_files() {
            let system = |own: &'static str, above: &'static str| {
                quota(&[
                    ("proc/self/cgroup", "4:memory:/docker/1\n3:cpu,cpuacct:/docker/1\n1:name=systemd:/x"),
                    (TWO, "40 30 0:35 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"),
                    ("sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us", own),
                    ("sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us", "100000"),
                    ("sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us", above),
                    ("sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us", "50000"),
                ])
            };
            assert_eq!(system("-1", "-1"), None);
            assert_eq!(system("250000", "-1"), Some(2.5));
            assert_eq!(system("250000", "50000"), Some(1.0));
        }

        #[test]
        fn both_versions_may_be_there() {
            let hybrid = [
                ("proc/self/cgroup", "1:cpu:/jobs\n0::/user"),
                (
                    TWO,
                    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                     32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                     33 31 0:30 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct\n\
                     41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
                ),
                ("sys/fs/cgroup/cpu/jobs/cpu.cfs_quota_us", "300000"),
                ("sys/fs/cgroup/cpu/jobs/cpu.cfs_period_us", "100000"),
            ];
            assert_eq!(quota(&hybrid), Some(3.0));
        }

        /// The paths that a container sees may be the host's, and only its own group is mounted.
        #[test]
        fn containers_see_their_own_group() {
            let files = |group: &'static str, path: &'static str| {
                let mount = format!("50 49 0:27 {group} /sys/fs/cgroup ro - cgroup2 cgroup rw");
                let path = format!("0::{path}");
                quota(&[
                    ("proc/self/cgroup", &path),
                    (TWO, &mount),
                    ("sys/fs/cgroup/cpu.max", "200000 100000"),
                    ("sys/fs/cgroup/inner/cpu.max", "100000 100000"),
                ])
            };
            assert_eq!(files("/docker/1", "/docker/1"), Some(2.0));
            assert_eq!(files("/docker/1", "/docker/1/inner"), Some(1.0));
            assert_eq!(files("/docker/1", "/docker/12"), Some(2.0), "not a part of the path");
            assert_eq!(files("/", "/"), Some(2.0), "a namespace of its own");
            assert_eq!(files("/", "/../other"), Some(2.0));
        }

        #[test]
        fn names_with_spaces_are_found() {
            let files = [
                ("proc/self/cgroup", "0::/my group"),
                (TWO, r"30 24 0:27 / /sys/my\040groups rw - cgroup2 cgroup2 rw"),
                ("sys/my groups/my group/cpu.max", "50000 100000"),
            ];
            assert_eq!(quota(&files), Some(0.5));
        }

        #[test]
        fn nonsense_is_no_quota() {
            assert_eq!(quota(&[]), None);
            for max in ["", "max", "x 100000", "100000", "100000 0", "100000 x"] {
                let files = [("proc/self/cgroup", "0::/"), (TWO, TREE), ("sys/fs/cgroup/cpu.max", max)];
                assert_eq!(quota(&files), None, "{max}");
            }
            assert_eq!(quota(&[("proc/self/cgroup", "0"), (TWO, "1 2\n\n- cgroup2")]), None);
        }
    }
}
