//! What a node needs of its machine, asked before it starts; a failed probe names the remedy.

use super::file::{Place, file_system_magic};
use crate::base::limits::{DIRECT_ALIGN_BYTES, KIB};
use io_uring::{IoUring, Probe, opcode};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Oldest kernel, as (major, minor): deferred task work came with 6.1.
const KERNEL_MIN: (u32, u32) = (6, 1);
/// What one shard's ring counts against the locked memory of a non-root process, bytes: its two
/// queues. Nothing else is locked.
const MEMLOCK_BYTES_PER_SHARD: u64 = 160 * KIB as u64;
/// Open files below which a node only warns.
const FILES_COUNT_WARN: u64 = 65_536;
/// Open files without which a node cannot work.
const FILES_COUNT_MIN: u64 = 256;
/// Name of the file that tries direct I/O out.
const TRIAL_NAME: &str = ".direct-io-trial";

/// The operations that the ring is asked for, by name.
const OPERATIONS: [(&str, u8); 11] = [
    ("READ", opcode::Read::CODE),
    ("WRITEV", opcode::Writev::CODE),
    ("FSYNC", opcode::Fsync::CODE),
    ("RECV", opcode::Recv::CODE),
    ("SENDMSG", opcode::SendMsg::CODE),
    ("SENDMSG_ZC", opcode::SendMsgZc::CODE),
    ("ACCEPT", opcode::Accept::CODE),
    ("CONNECT", opcode::Connect::CODE),
    ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
    ("POLL_ADD", opcode::PollAdd::CODE),
    ("TIMEOUT", opcode::Timeout::CODE),
];

/// What to probe.
#[derive(Debug, Clone)]
pub struct ProbeConfig {
    /// Where the data is or will be; created if it is missing.
    pub data_dir: PathBuf,
    /// Shards that will run.
    pub shards_count: usize,
}

/// What was found; `Display` is one line for the log.
#[derive(Debug, Clone)]
pub struct ProbeReport {
    pub kernel: String,
    pub file_system: &'static str,
    /// Alignment that direct I/O wants for positions and memory, bytes; 0 when the kernel cannot
    /// say.
    pub direct_position_bytes: u32,
    pub direct_memory_bytes: u32,
    /// Whether one fdatasync flushes the completed writes of all files.
    pub one_flush_for_all: bool,
    pub files_count_max: u64,
    /// What will work, but not as well as it could; each with its remedy.
    pub warnings: Vec<String>,
}

impl std::fmt::Display for ProbeReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let flush = if self.one_flush_for_all { "one for all files" } else { "one a file" };
        write!(
            f,
            "Linux {}, {} with direct I/O (positions {} B, memory {} B), flush: {flush}, \
             open files up to {}",
            self.kernel,
            self.file_system,
            self.direct_position_bytes,
            self.direct_memory_bytes,
            self.files_count_max
        )
    }
}

/// A machine that cannot run a node; the text ends with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("Linux {found} is too old: install Linux {}.{} or newer", KERNEL_MIN.0, KERNEL_MIN.1)]
    Kernel { found: String },
    #[error(
        "io_uring is switched off (kernel.io_uring_disabled = {value}): run \
         `sysctl -w kernel.io_uring_disabled=0` as root, and put that line into /etc/sysctl.d/"
    )]
    UringDisabled { value: String },
    #[error(
        "io_uring is refused ({cause}), mostly by a container's seccomp profile: allow \
         io_uring_setup, io_uring_enter and io_uring_register there, \
         for example with `docker run --security-opt seccomp=unconfined`"
    )]
    UringRefused { cause: io::Error },
    #[error("io_uring lacks {missing}: install Linux {}.{} or newer", KERNEL_MIN.0, KERNEL_MIN.1)]
    UringOperations { missing: String },
    #[error(
        "only {limit_bytes} bytes of memory may be locked and {need_bytes} are needed: run \
         `ulimit -l {}` before the node, or set LimitMEMLOCK={need_bytes} in its systemd unit",
        need_bytes / KIB as u64
    )]
    Memlock { limit_bytes: u64, need_bytes: u64 },
    #[error(
        "only {limit_count} files may be open: run `ulimit -n {}` before the node, \
         or set LimitNOFILE={} in its systemd unit",
        FILES_COUNT_WARN,
        FILES_COUNT_WARN
    )]
    Files { limit_count: u64 },
    #[error("the data directory {} cannot be used: {cause}", path.display())]
    DataDir { path: PathBuf, cause: io::Error },
    #[error(
        "the data directory {} is on {file_system}, which has no direct I/O ({cause}): put it on \
         ext4 or XFS, for example with `--data-dir` on another mount",
        path.display()
    )]
    DirectIo { path: PathBuf, file_system: &'static str, cause: io::Error },
    #[error(
        "direct I/O in {} wants blocks of {need_bytes} bytes and {} are used: put the data on a \
         device with smaller blocks",
        path.display(),
        DIRECT_ALIGN_BYTES
    )]
    Alignment { path: PathBuf, need_bytes: u32 },
}

/// Probes the machine and raises the soft limit of open files to the hard one. Blocks; call it
/// before the shards start.
///
/// # Errors
/// The first thing that is missing, with its remedy.
pub fn run(config: &ProbeConfig) -> Result<ProbeReport, ProbeError> {
    let mut warnings = Vec::new();
    let kernel = probe_kernel()?;
    probe_memlock(config.shards_count)?; // before the ring, which would only say ENOMEM
    probe_uring()?;
    let files_count_max = probe_files(&mut warnings)?;
    let (file_system, one_flush_for_all) = probe_data_dir(&config.data_dir)?;
    let (position_bytes, memory_bytes) = probe_alignment(&config.data_dir)?;
    if !one_flush_for_all {
        warnings.push(format!(
            "{file_system} needs a flush for each file here: many busy partitions are slower than \
             on ext4 (not with its data journaled) or XFS"
        ));
    }
    Ok(ProbeReport {
        kernel,
        file_system,
        direct_position_bytes: position_bytes,
        direct_memory_bytes: memory_bytes,
        one_flush_for_all,
        files_count_max,
        warnings,
    })
}

fn probe_kernel() -> Result<String, ProbeError> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim().to_owned();
    match kernel_version(&release) {
        Some(version) if version < KERNEL_MIN => Err(ProbeError::Kernel { found: release }),
        _ => Ok(release), // an unreadable version: the ring's own probe decides
    }
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn probe_uring() -> Result<(), ProbeError> {
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    // SAFETY: no pointers.
    let root = unsafe { libc::geteuid() } == 0;
    let value = disabled.trim();
    if value == "2" || (value == "1" && !root) {
        return Err(ProbeError::UringDisabled { value: value.to_owned() });
    }
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
    let ring: IoUring = builder.build(8).map_err(|cause| match cause.raw_os_error() {
        Some(libc::EINVAL) => ProbeError::UringOperations { missing: "deferred task work".into() },
        _ => ProbeError::UringRefused { cause },
    })?;
    let mut probe = Probe::new();
    let refused = |cause| ProbeError::UringRefused { cause };
    ring.submitter().register_probe(&mut probe).map_err(refused)?;
    let missing: Vec<_> = OPERATIONS
        .iter()
        .filter(|(_, code)| !probe.is_supported(*code))
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(ProbeError::UringOperations { missing: missing.join(", ") })
}

fn limit(resource: libc::__rlimit_resource_t) -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live rlimit.
    let result = unsafe { libc::getrlimit(resource, &raw mut limit) };
    assert!(result == 0, "the resource exists");
    limit
}

fn probe_memlock(shards_count: usize) -> Result<(), ProbeError> {
    // SAFETY: no pointers.
    if unsafe { libc::geteuid() } == 0 {
        return Ok(());
    }
    let limit_bytes = limit(libc::RLIMIT_MEMLOCK).rlim_cur;
    let need_bytes = MEMLOCK_BYTES_PER_SHARD * shards_count as u64;
    if limit_bytes < need_bytes {
        return Err(ProbeError::Memlock { limit_bytes, need_bytes });
    }
    Ok(())
}

fn probe_files(warnings: &mut Vec<String>) -> Result<u64, ProbeError> {
    let mut files = limit(libc::RLIMIT_NOFILE);
    if files.rlim_cur < files.rlim_max {
        files.rlim_cur = files.rlim_max;
        // SAFETY: the pointer is to a live rlimit. If it fails the old limit holds.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const files) };
    }
    let count = limit(libc::RLIMIT_NOFILE).rlim_cur;
    if count < FILES_COUNT_MIN {
        return Err(ProbeError::Files { limit_count: count });
    }
    if count < FILES_COUNT_WARN {
        warnings.push(format!(
            "only {count} files may be open, which bounds partitions and connections: run \
             `ulimit -n {FILES_COUNT_WARN}` before the node, or set LimitNOFILE={FILES_COUNT_WARN} \
             in its systemd unit"
        ));
    }
    Ok(count)
}

fn probe_data_dir(path: &Path) -> Result<(&'static str, bool), ProbeError> {
    let unusable = |cause| ProbeError::DataDir { path: path.to_owned(), cause };
    super::fs::create_dir_all(path).map_err(unusable)?;
    let directory = fs::File::open(path).map_err(unusable)?;
    let magic = file_system_magic(&directory).map_err(unusable)?;
    let file_system = match magic {
        0xEF53 => "ext4",
        0x5846_5342 => "XFS",
        0x9123_683E => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794C_7630 => "overlayfs",
        0x6969 => "NFS",
        0x2FC1_2FC1 => "ZFS",
        _ => "an unknown file system",
    };
    let trial = path.join(TRIAL_NAME);
    fs::write(&trial, b"").map_err(unusable)?;
    let opened =
        fs::OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(&trial);
    let removed = fs::remove_file(&trial);
    let opened = opened.map_err(|cause| ProbeError::DirectIo {
        path: path.to_owned(),
        file_system,
        cause,
    })?;
    removed.map_err(unusable)?;
    let place = Place::of(&opened).map_err(unusable)?;
    Ok((file_system, place.one_flush_for_all))
}

/// What statx says of the alignment of direct I/O (Linux 6.1), as (position, memory) bytes.
fn probe_alignment(path: &Path) -> Result<(u32, u32), ProbeError> {
    let unusable = |cause| ProbeError::DataDir { path: path.to_owned(), cause };
    let trial = path.join(TRIAL_NAME);
    fs::write(&trial, b"").map_err(unusable)?;
    let name =
        CString::new(trial.as_os_str().as_bytes()).map_err(|error| unusable(error.into()))?;
    // SAFETY: all-zero is a valid statx, which the call fills.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the name ends in a zero byte and the pointer is to a live statx.
    let result = unsafe {
        libc::statx(libc::AT_FDCWD, name.as_ptr(), 0, libc::STATX_DIOALIGN, &raw mut stat)
    };
    fs::remove_file(&trial).map_err(unusable)?;
    if result != 0 || stat.stx_mask & libc::STATX_DIOALIGN == 0 {
        return Ok((0, 0));
    }
    let need_bytes = stat.stx_dio_offset_align.max(stat.stx_dio_mem_align);
    if need_bytes as usize > DIRECT_ALIGN_BYTES {
        return Err(ProbeError::Alignment { path: path.to_owned(), need_bytes });
    }
    Ok((stat.stx_dio_offset_align, stat.stx_dio_mem_align))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: versions compare as numbers. Method: releases as distributions print them.
    #[test]
    fn a_kernel_release_is_read_as_two_numbers() {
        assert_eq!(kernel_version("6.18.44-fc-v769"), Some((6, 18)));
        assert_eq!(kernel_version("5.15.0-1051-aws"), Some((5, 15)));
        assert_eq!(kernel_version("7.0-rc1"), Some((7, 0)));
        assert_eq!(kernel_version("unknown"), None);
        assert!(kernel_version("5.15.0") < Some(KERNEL_MIN));
    }

    /// Goal: every refusal says what to do. Method: look for the command or place in each text.
    #[test]
    fn every_probe_error_names_its_remedy() {
        let path = PathBuf::from("/data");
        let cause = || io::Error::from_raw_os_error(libc::EINVAL);
        let texts = [
            (ProbeError::Kernel { found: "5.4".into() }.to_string(), "install Linux 6.1"),
            (ProbeError::UringDisabled { value: "2".into() }.to_string(), "sysctl -w"),
            (ProbeError::UringRefused { cause: cause() }.to_string(), "seccomp"),
            (ProbeError::UringOperations { missing: "ZC".into() }.to_string(), "install Linux"),
            (
                ProbeError::Memlock { limit_bytes: 65_536, need_bytes: 524_288 }.to_string(),
                "ulimit -l 512",
            ),
            (ProbeError::Files { limit_count: 10 }.to_string(), "ulimit -n 65536"),
            (
                ProbeError::DirectIo { path: path.clone(), file_system: "NFS", cause: cause() }
                    .to_string(),
                "ext4 or XFS",
            ),
            (ProbeError::Alignment { path, need_bytes: 16_384 }.to_string(), "smaller blocks"),
        ];
        for (text, remedy) in texts {
            assert!(text.contains(remedy), "{text}");
        }
    }

    /// Goal: this machine passes. Method: probe the directory of the build, on a real disk.
    #[test]
    fn the_probe_passes_on_a_machine_that_runs_the_tests() {
        let data_dir = std::env::current_dir().expect("a directory").join("target/probe-test");
        let report = run(&ProbeConfig { data_dir: data_dir.clone(), shards_count: 2 });
        let report = report.expect("the machine can run a node");
        assert!(report.to_string().starts_with("Linux "));
        fs::remove_dir_all(data_dir).expect("made above");
    }
}
