//! How much memory a process may still take on Linux: what the machine has free, or less where control groups say so.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that the process can take in a system whose `/proc` and `/sys` are below `root`.
pub fn free_bytes(root: &Path) -> Option<u64> {
    let machine =
        number(&fs::read_to_string(root.join("proc/meminfo")).ok()?, "MemAvailable:")?.saturating_mul(1024);
    let groups = groups(root).unwrap_or_default();
    Some(groups.iter().filter_map(Group::free_bytes).fold(machine, u64::min))
}

/// A control group that this process is in, itself or by one of its children.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    version: Version,
    folder: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Group {
    /// What its limit leaves, if it has one.
    fn free_bytes(&self) -> Option<u64> {
        let read = |file: &str| fs::read_to_string(self.folder.join(file)).ok();
        let bytes = |file: &str| read(file)?.trim().parse::<u64>().ok();
        let stat = read("memory.stat").unwrap_or_default();
        let sum = |keys: &[&str]| keys.iter().filter_map(|key| number(&stat, key)).sum::<u64>();
        let (limit, used, dropped) = match self.version {
            Version::One => (
                bytes("memory.limit_in_bytes")?,
                bytes("memory.usage_in_bytes")?,
                sum(&["total_active_file", "total_inactive_file"]),
            ),
            // `max` is no number, and no limit. Above `high` a group is slowed down rather than refused.
            Version::Two => (
                [bytes("memory.max"), bytes("memory.high")].into_iter().flatten().min()?,
                bytes("memory.current")?,
                sum(&["active_file", "inactive_file", "slab_reclaimable"]),
            ),
        };
        Some(limit.saturating_sub(used.saturating_sub(dropped)))
    }
}

/// The groups that count this process's memory, innermost first.
fn groups(root: &Path) -> Option<Vec<Group>> {
    let memberships = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    let mut groups = Vec::new();
    for (version, path) in memberships.lines().filter_map(membership) {
        let Some((mounted, at)) = mounts.lines().find_map(|line| mount(line, version)) else { continue };
        let at = root.join(at.trim_start_matches('/'));
        // A container sees its own group as the root of the mount, whatever the path says.
        let inner = Path::new(path).strip_prefix(&mounted).unwrap_or(Path::new(""));
        let mut folder = if path.contains("/..") { at.clone() } else { at.join(inner) };
        if !folder.is_dir() {
            folder = at.clone();
        }
        loop {
            groups.push(Group { version, folder: folder.clone() });
            // Up to where it is mounted. In version 1, a group may not count its children.
            let parent = folder.parent().filter(|parent| parent.starts_with(&at)).map(Path::to_path_buf);
            match parent {
                Some(parent) if version == Version::Two || counts_children(&parent) => folder = parent,
                _ => break,
            }
        }
    }
    Some(groups)
}

fn counts_children(folder: &Path) -> bool {
    !fs::read_to_string(folder.join("memory.use_hierarchy")).is_ok_and(|flag| flag.trim() == "0")
}

/// The group of a line of `/proc/self/cgroup`, if that counts memory: `4:memory:/a/b`, or `0::/a/b` in version 2.
fn membership(line: &str) -> Option<(Version, &str)> {
    let mut fields = line.splitn(3, ':');
    let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    match controllers {
        "" if id == "0" => Some((Version::Two, path)),
        _ if controllers.split(',').any(|controller| controller == "memory") => Some((Version::One, path)),
        _ => None,
    }
}

/// What is mounted by a line of `/proc/self/mountinfo`, and where, if it is the hierarchy that counts memory.
fn mount(line: &str, version: Version) -> Option<(String, String)> {
    let (fields, rest) = line.split_once(" - ")?;
    let mut fields = fields.split(' ').skip(3);
    let (mounted, at) = (unescape(fields.next()?), unescape(fields.next()?));
    let mut rest = rest.split(' ');
    let kind = rest.next()?;
    let mut options = rest.nth(1)?.split(',');
    let is_it = match version {
        Version::One => kind == "cgroup" && options.any(|option| option == "memory"),
        Version::Two => kind == "cgroup2",
    };
    is_it.then_some((mounted, at))
}

/// `\040` is a space.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let octal =
            after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The number behind `key` in a file of one `key number` a line.
fn number(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix([' ', '\t']))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    /// A system whose files are these, with 8,000 MB available.
    fn system(files: &[(&str, String)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let meminfo =
            format!("MemTotal: 16000000 kB\nMemFree:  1000 kB\nMemAvailable:  {} kB\n", 8000 * 1024);
        let meminfo = ("proc/meminfo", meminfo);
        for (name, content) in files.iter().chain([&meminfo]) {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    fn megabytes(files: &[(&str, String)]) -> u64 {
        let bytes = free_bytes(system(files).path()).unwrap();
        assert_eq!(bytes % MB, 0);
        bytes / MB
    }

    const V2: &str = "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "20 1 0:5 / / rw - ext4 /dev/vda rw\n\
        31 25 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
        32 25 0:29 / /sys/fs/cgroup/memory rw,relatime shared:14 - cgroup cgroup rw,memory\n\
        33 25 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn without_groups_it_is_what_the_machine_has() {
        assert_eq!(megabytes(&[]), 8000);
        assert_eq!(
            megabytes(&[("proc/self/cgroup", "0::/\n".into()), ("proc/self/mountinfo", V2.into())]),
            8000
        );
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(free_bytes(empty.path()), None);
    }

    fn v2(folder: &str, max: &str, high: &str, current: u64, file: u64) -> Vec<(String, String)> {
        let stat = format!(
            "anon 1\nfile {}\ninactive_file {}\nactive_file {}\nslab_reclaimable {}\n",
            999 * MB,
            file * MB,
            MB,
            MB
        );
        [
            ("memory.max", max.to_owned()),
            ("memory.high", high.to_owned()),
            ("memory.current", (current * MB).to_string()),
            ("memory.stat", stat),
        ]
        .map(|(file, content)| (format!("sys/fs/cgroup{folder}/{file}"), content + "\n"))
        .to_vec()
    }

    fn in_v2(path: &str, mount: &str, files: &[Vec<(String, String)>]) -> u64 {
        let files = files.concat();
        let mut all: Vec<(&str, String)> =
            files.iter().map(|(name, content)| (name.as_str(), content.clone())).collect();
        all.push(("proc/self/cgroup", format!("0::{path}\n")));
        all.push(("proc/self/mountinfo", mount.to_owned()));
        megabytes(&all)
    }

    #[test]
    fn version_2() {
        let bytes = |n: u64| (n * MB).to_string();
        // 3,000 allowed, 1,000 used, of which 400 + 1 + 1 hold copies of files and the like.
        let limited = v2("/a/b", &bytes(3000), "max", 1000, 400);
        assert_eq!(in_v2("/a/b", V2, std::slice::from_ref(&limited)), 2402);
        let unlimited = v2("/a/b", "max", "max", 1000, 400);
        assert_eq!(in_v2("/a/b", V2, std::slice::from_ref(&unlimited)), 8000);
        // Slowed down before it is refused.
        assert_eq!(in_v2("/a/b", V2, &[v2("/a/b", &bytes(3000), &bytes(2000), 1000, 0)]), 1002);
        assert_eq!(in_v2("/a/b", V2, &[v2("/a/b", "max", &bytes(2000), 1000, 0)]), 1002);
        // The strictest of all levels.
        let outer = v2("/a", &bytes(1500), "max", 1200, 0);
        assert_eq!(in_v2("/a/b", V2, &[limited.clone(), outer.clone()]), 302);
        assert_eq!(in_v2("/a/b", V2, &[unlimited, outer]), 302);
        // Over its limit, as after the limit was lowered.
        assert_eq!(in_v2("/a", V2, &[v2("/a", &bytes(100), "max", 700, 0)]), 0);
        // More than the machine has.
        assert_eq!(in_v2("/a", V2, &[v2("/a", &bytes(64_000), "max", 0, 0)]), 8000);
    }

    #[test]
    fn containers_see_their_group_as_the_root() {
        let bytes = |n: u64| (n * MB).to_string();
        let own = v2("", &bytes(2000), "max", 500, 0);
        // With a namespace of its own, and without one but with the group mounted.
        assert_eq!(in_v2("/", V2, std::slice::from_ref(&own)), 1502);
        assert_eq!(in_v2("/../other", V2, std::slice::from_ref(&own)), 1502);
        let mounted = V2.replace(" / /sys", " /docker/0123 /sys");
        assert_eq!(in_v2("/docker/0123", &mounted, std::slice::from_ref(&own)), 1502);
        let inner = v2("/in", &bytes(900), "max", 500, 0);
        assert_eq!(in_v2("/docker/0123/in", &mounted, &[own.clone(), inner]), 402);
        assert_eq!(in_v2("/docker/0123", V2, &[own]), 1502, "the path does not exist in here");
    }

    fn v1(folder: &str, limit: u64, usage: u64, file: u64) -> Vec<(String, String)> {
        // What children use counts too.
        let stat = format!(
            "cache 1\nactive_file 2\ninactive_file 3\ntotal_inactive_file {}\ntotal_active_file {}\n",
            file * MB,
            MB
        );
        [
            ("memory.limit_in_bytes", limit.to_string()),
            ("memory.usage_in_bytes", (usage * MB).to_string()),
            ("memory.stat", stat),
        ]
        .map(|(file, content)| (format!("sys/fs/cgroup/memory{folder}/{file}"), content + "\n"))
        .to_vec()
    }

    #[test]
    fn version_1() {
        const UNLIMITED: u64 = 9_223_372_036_854_771_712;
        let in_v1 = |files: &[Vec<(String, String)>]| {
            let files = files.concat();
            let mut all: Vec<(&str, String)> =
                files.iter().map(|(name, content)| (name.as_str(), content.clone())).collect();
            all.push(("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/job one/step\n0::/\n".into()));
            all.push(("proc/self/mountinfo", V1.into()));
            megabytes(&all)
        };
        let (outer, inner) = ("/job one", "/job one/step");
        assert_eq!(
            in_v1(&[v1("", UNLIMITED, 9000, 0), v1(outer, UNLIMITED, 900, 0), v1(inner, UNLIMITED, 900, 0)]),
            8000
        );
        assert_eq!(in_v1(&[v1(outer, UNLIMITED, 900, 0), v1(inner, 3000 * MB, 1000, 250)]), 2251);
        assert_eq!(in_v1(&[v1(outer, 1200 * MB, 900, 0), v1(inner, 3000 * MB, 1000, 250)]), 301);
        let does_not_count =
            vec![(format!("sys/fs/cgroup/memory{outer}/memory.use_hierarchy"), "0\n".to_owned())];
        assert_eq!(
            in_v1(&[v1(outer, 1200 * MB, 900, 0), does_not_count, v1(inner, 3000 * MB, 1000, 250)]),
            2251
        );
    }

    #[test]
    fn lines_of_the_kernel() {
        assert_eq!(membership("0::/user.slice/a"), Some((Version::Two, "/user.slice/a")));
        assert_eq!(membership("4:cpuset,memory:/a:b"), Some((Version::One, "/a:b")));
        assert_eq!(membership("1:name=systemd:/"), None);
        assert_eq!(membership("nonsense"), None);
        let line = r"32 25 0:29 /my\040job /mnt/c\134g rw shared:14 master:1 - cgroup cgroup rw,memory";
        assert_eq!(mount(line, Version::One), Some(("/my job".into(), r"/mnt/c\g".into())));
        assert_eq!(mount(line, Version::Two), None);
        assert_eq!(mount("32 25 0:29 / /sys - tmpfs tmpfs rw", Version::One), None);
        assert_eq!(mount("too short", Version::One), None);
    }

    #[test]
    fn this_machine_has_some() {
        let bytes = free_bytes(Path::new("/")).unwrap();
        assert!(bytes > 0 && bytes < 1 << 46, "{bytes}");
    }
}
